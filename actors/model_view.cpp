#include "actors/model_view.hpp"

#include "storage/store/pull.hpp"

namespace troupe::actors {

namespace {

/// The directory, or where it is to be fetched from, without credentials.
std::string place_of(const storage::model_source& source) {
  if (!source.dir.empty())
    return source.dir.string();
  const auto where = storage::parse_origin(source.origin);
  if (!where)
    return {};
  return storage::joined(*where, ", ", [](const storage::location& x) { return x.text; });
}

} // namespace

std::string_view state_name(const policies::model_view& view) {
  if (!view.best)
    return view.error.empty() ? "cold" : "failed";
  switch (view.best->state) {
  case policies::residence::reserved:
  case policies::residence::loading:
  case policies::residence::coming:
    return "loading";
  case policies::residence::ready:
    return "ready";
  case policies::residence::leaving:
    return "cold";
  }
  return "cold";
}

model_status make_status(const model_card& card, const policies::model_view& view,
                         const std::string& device, instant now) {
  using system = std::chrono::system_clock;
  model_status out;
  out.id = card.source.id;
  out.architecture = card.source.architecture;
  out.path = place_of(card.source);
  out.state = state_name(view);
  out.error = view.best ? std::string{} : view.error;
  out.weight_bytes = card.weight_bytes();
  out.active = static_cast<uint32_t>(view.running);
  out.queued = static_cast<uint32_t>(view.queued);
  out.pinned = view.pinned;
  out.context_length = card.context_length;
  out.created = card.source.modified;
  if (view.best) {
    out.resident_bytes =
        view.best->state == policies::residence::reserved ? 0 : view.best->takes.own_bytes;
    out.device = device;
  }
  if (const auto used = card.last_used_us.load())
    out.last_used = system::time_point{std::chrono::microseconds{used}};
  if (view.unload_at)
    out.unload_at =
        system::now() + std::chrono::duration_cast<system::duration>(*view.unload_at - now);
  out.requests = card.requests;
  out.generated_tokens = card.generated_tokens;
  return out;
}

device_status make_status(const worker_hello& worker,
                          const std::map<model_id, residence_report>& residents) {
  device_status out;
  out.device = worker.device + "@" + worker.node;
  out.limit_bytes = worker.limit_bytes;
  out.kv_memory_bytes = worker.kv_memory_bytes;
  policies::footprint all;
  for (const auto& [id, x] : residents) {
    all += x.takes;
    out.kv_bytes += x.kv_bytes;
  }
  out.weights_bytes = all.own_bytes;
  out.workspace_bytes = all.workspace_bytes;
  return out;
}

} // namespace troupe::actors

#include "storage/pipeline/prefetch.hpp"

#include "storage/pipeline/tier_survey.hpp"

namespace troupe::storage {

namespace {

/// What is thrown out must be worth that much less: estimates are rough, and reading costs.
constexpr double worth_margin = 0.5;

} // namespace

caf::expected<std::unique_ptr<prefetch>> prefetch::start(weight_tiers& tiers,
                                                         const checkpoint& files,
                                                         const std::vector<std::string>& names,
                                                         double worth, instant now) {
  const auto found = survey(tiers, files, names);
  const auto chunks = (found.disk + found.cached + tiers.chunk_bytes() - 1) / tiers.chunk_bytes();
  if (chunks == 0 || tiers.pool().room_below(worth_margin * worth, now) < chunks)
    return std::unique_ptr<prefetch>{};
  auto sums = tiers.open_sums(files);
  if (!sums)
    return sums.error();
  load_plan plan;
  for (size_t i = 0; i < files.files().size(); ++i) {
    const auto& file = files.files()[i];
    auto opened = disk_file::of(file.fd(), file.path());
    if (!opened)
      return opened.error();
    plan.files.push_back({make_disk_origin(tiers.reader(), std::move(*opened)), sums->at(i)});
  }
  for (const auto& name : names)
    if (const auto tensor = files.find(name))
      if (const auto range = locate(files, *tensor))
        plan.ranges.push_back(*range);
  std::unique_ptr<prefetch> out{new prefetch};
  // Leases end at once: nothing is held that somebody needs the room of.
  load_events events{.chunk = [](const loaded_chunk&) { return caf::error{}; },
                     .progress = {},
                     .done = [over = out->over_](const caf::error&) { *over = true; }};
  out->load_ = tiers.pipeline().start(std::move(plan), load_priority::prefetch, std::move(events));
  return out;
}

} // namespace troupe::storage

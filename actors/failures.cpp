#include "actors/failures.hpp"

#include <algorithm>

#include "actors/errors.hpp"
#include "engine/errors.hpp"

namespace troupe::actors {

failure to_failure(const policies::refusal& why) {
  using policies::refusal_reason;
  failure out{
      .kind = failure_kind::no_capacity, .message = why.message, .param = {}, .retry_after = {}};
  switch (why.reason) {
  case refusal_reason::queue_full:
    out.kind = failure_kind::queue_full;
    break;
  case refusal_reason::no_worker:
  case refusal_reason::too_large:
    out.kind = failure_kind::no_capacity;
    break;
  case refusal_reason::load_failed:
  case refusal_reason::files_broken:
    out.kind = failure_kind::load_failed;
    break;
  case refusal_reason::tenant_cap:
    out.kind = failure_kind::tenant_cap;
    out.limit = why.cap;
    if (why.retry_after > duration{0}) // exact, so it is not cut to what clients obey
      out.retry_after = std::chrono::ceil<std::chrono::seconds>(why.retry_after);
    return out;
  }
  // Clients obey up to 120 s. Broken files stay broken: no Retry-After, which means 500.
  if (why.reason != refusal_reason::files_broken)
    out.retry_after = std::clamp(std::chrono::ceil<std::chrono::seconds>(why.retry_after),
                                 std::chrono::seconds{1}, std::chrono::seconds{120});
  return out;
}

failure to_failure(const caf::error& why) {
  failure out{
      .kind = failure_kind::internal, .message = describe(why), .param = {}, .retry_after = {}};
  if (why.category() == caf::atom("engine")) {
    const auto code = static_cast<engine::errc>(why.code());
    if (code == engine::errc::invalid_argument)
      out.kind = failure_kind::invalid_request;
    else if (code == engine::errc::unsupported)
      out.kind = failure_kind::unsupported;
    else if (code != engine::errc::out_of_memory)
      out.kind = failure_kind::load_failed;
  } else if (why.category() == caf::atom("actors")) {
    switch (static_cast<errc>(why.code())) {
    case errc::model_not_found:
      out.kind = failure_kind::model_not_found;
      break;
    case errc::shutting_down:
      out.kind = failure_kind::shutting_down;
      break;
    case errc::load_failed:
    case errc::files_broken:
      out.kind = failure_kind::load_failed;
      break;
    case errc::no_capacity:
      out.kind = failure_kind::no_capacity;
      break;
    case errc::timed_out:
      out.kind = failure_kind::timed_out;
      break;
    default:
      break;
    }
  }
  return out;
}

std::string_view kind_name(failure_kind kind) {
  switch (kind) {
  case failure_kind::invalid_request:
    return "invalid_request";
  case failure_kind::context_length_exceeded:
    return "context_length_exceeded";
  case failure_kind::unsupported:
    return "unsupported";
  case failure_kind::model_not_found:
    return "model_not_found";
  case failure_kind::queue_full:
    return "queue_full";
  case failure_kind::no_capacity:
    return "no_capacity";
  case failure_kind::load_failed:
    return "load_failed";
  case failure_kind::shutting_down:
    return "shutting_down";
  case failure_kind::timed_out:
    return "timed_out";
  case failure_kind::cancelled:
    return "cancelled";
  case failure_kind::rate_limited:
    return "rate_limited";
  case failure_kind::too_many_at_once:
    return "too_many_at_once";
  case failure_kind::beyond_quota:
    return "beyond_quota";
  case failure_kind::budget_spent:
    return "budget_spent";
  case failure_kind::tenant_cap:
    return "tenant_cap";
  case failure_kind::internal:
    break;
  }
  return "internal";
}

} // namespace troupe::actors

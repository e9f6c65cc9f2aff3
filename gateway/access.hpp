#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "actors/request.hpp"
#include "actors/tenant_registry.hpp"
#include "gateway/api_error.hpp"

/// Who may do what over HTTP, and how much of it.
namespace troupe::gateway {

/// The key in an Authorization header ("Bearer KEY"), or nothing.
std::string_view bearer_key(std::string_view authorization);

/// 401 for a key that is not good.
api_error refuse_key(actors::tenant_registry::verdict why);
/// 403 for a good key that does not reach so far.
api_error refuse_admin(bool has_admin_keys);
/// Nothing when this request's tenant may use the model.
std::optional<api_error> refuse_model(const http_request& request, const std::string& model);
bool may_use(const actors::tenant* who, const actors::issued_key* key, const std::string& model);

/// What a tenant is told that is over a limit.
actors::failure over_limit(const actors::tenant& who, const policies::quota_refusal& why);

/// The x-ratelimit-* headers, of those limits that there are; x-troupe-budget-warning once the soft
/// limit of a budget has been passed.
void show_limits(const actors::tenant& who, reply_channel& channel, instant now);

/// "6m0s", "1s", "250ms": how the OpenAI API writes times.
std::string reset_text(duration time);

/// A generation request that was let in.
struct admitted_request {
  std::shared_ptr<actors::tenant> who;
  std::unique_ptr<actors::quota_ticket> ticket;
  std::shared_ptr<reply_channel> channel;
  std::string model; ///< as the client calls it
  uint32_t choices = 1;
  std::shared_ptr<std::optional<api_error>> ending; ///< of its answer_shape
  uint64_t answer_max = 0;                          ///< tokens that all its answers may have
  std::function<void()> cancel;
};

/// Reserves and settles the request's tokens on their way to `to`.
std::shared_ptr<actors::reply_sink> make_quota_sink(std::shared_ptr<actors::reply_sink> to,
                                                    admitted_request what);

} // namespace troupe::gateway

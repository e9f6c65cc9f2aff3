#include "policies/fair_vtc.hpp"

#include <algorithm>

namespace troupe::policies {

virtual_token_counter::tenant_state& virtual_token_counter::at(uint32_t tenant) {
  if (tenant >= tenants_.size())
    tenants_.resize(size_t{tenant} + 1);
  return tenants_[tenant];
}

void virtual_token_counter::set_weight(uint32_t tenant, double weight) {
  at(tenant).weight = weight;
}

void virtual_token_counter::push(const fair_request& request) {
  auto& x = at(request.tenant);
  if (x.waiting.empty()) {
    // Credit from idle time is lost, whether others wait now or the last of them has just left.
    if (!turns_.empty())
      x.counter = std::max(x.counter, turns_.begin()->first);
    else if (last_to_leave_)
      x.counter = std::max(x.counter, tenants_[*last_to_leave_].counter);
    turns_.emplace(x.counter, request.tenant);
  }
  x.waiting.push_back(request);
}

const fair_request* virtual_token_counter::front() const {
  return turns_.empty() ? nullptr : &tenants_[turns_.begin()->second].waiting.front();
}

std::optional<fair_request> virtual_token_counter::pop() {
  if (turns_.empty())
    return std::nullopt;
  const auto tenant = turns_.begin()->second;
  auto& x = tenants_[tenant];
  const auto request = x.waiting.front();
  x.waiting.pop_front();
  if (x.waiting.empty()) {
    turns_.erase({x.counter, tenant});
    last_to_leave_ = tenant;
  }
  const auto cached = std::min(request.cached_tokens, request.input_tokens);
  add(tenant, prices_.input * (request.input_tokens - cached) + prices_.cached * cached);
  return request;
}

void virtual_token_counter::charge_output(uint32_t tenant, int64_t tokens) {
  add(tenant, prices_.output * static_cast<double>(tokens));
}

void virtual_token_counter::add(uint32_t tenant, double cost) {
  auto& x = at(tenant);
  const auto before = x.counter;
  x.counter += cost / x.weight;
  if (x.waiting.empty())
    return;
  auto turn = turns_.extract({before, tenant});
  turn.value().first = x.counter;
  turns_.insert(std::move(turn));
}

double virtual_token_counter::counter(uint32_t tenant) const {
  return tenant < tenants_.size() ? tenants_[tenant].counter : 0;
}

bool virtual_token_counter::waits(uint32_t tenant) const {
  return tenant < tenants_.size() && !tenants_[tenant].waiting.empty();
}

} // namespace troupe::policies

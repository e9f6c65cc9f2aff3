#include "cli/key_watch.hpp"

#include <algorithm>

#include "actors/log.hpp"
#include "cli/access.hpp"
#include "cli/state.hpp"

namespace troupe::cli {

caf::error key_watch::open(const config::settings& settings) {
  if (store_ || !keeps_keys(settings))
    return {};
  const auto dir = state_dir(settings);
  if (!dir)
    return dir.error();
  if (!*dir)
    return {};
  auto opened = storage::open_key_store(**dir);
  if (!opened)
    return std::move(opened.error());
  store_ = std::move(*opened);
  if (auto why = read()) {
    store_.reset();
    return why;
  }
  return {};
}

caf::error key_watch::read() {
  const auto version = store_->version(); // first: what changes meanwhile is read again
  if (!version)
    return version.error();
  if (seen_ == *version)
    return {};
  const auto all = store_->all();
  if (!all)
    return all.error();
  std::vector<actors::issued_key> keys;
  std::ranges::transform(*all, std::back_inserter(keys), issued_key_of);
  const bool was_open = tenants_->open();
  tenants_->issue(std::move(keys));
  if (was_open && !tenants_->open())
    actors::log_info("keys are asked for from now on: state_dir holds " +
                     std::to_string(all->size()));
  seen_ = *version;
  return {};
}

void key_watch::look() {
  if (!store_)
    return;
  const auto why = read();
  if (why && !failing_) // once, not four times a second
    actors::log_error("kept keys cannot be read, those of before stay: " + describe(why));
  failing_ = static_cast<bool>(why);
}

} // namespace troupe::cli

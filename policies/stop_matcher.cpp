#include "policies/stop_matcher.hpp"

#include <algorithm>
#include <utility>

namespace troupe::policies {

namespace {

/// Length of the longest end of `text` that begins `stop` without completing it.
size_t overlap(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length)
    if (text.ends_with(stop.substr(0, length)))
      return length;
  return 0;
}

} // namespace

stop_matcher::stop_matcher(std::vector<std::string> stops) : stops_{std::move(stops)} {
  std::erase_if(stops_, [](const std::string& x) { return x.empty(); });
}

std::string stop_matcher::push(std::string_view piece) {
  if (stopped_)
    return {};
  if (stops_.empty())
    return std::string{piece};
  held_ += piece;
  auto found = std::string::npos;
  for (const auto& stop : stops_)
    found = std::min(found, held_.find(stop));
  if (found != std::string::npos) {
    stopped_ = true;
    auto out = held_.substr(0, found);
    held_.clear();
    return out;
  }
  size_t keep = 0;
  for (const auto& stop : stops_)
    keep = std::max(keep, overlap(held_, stop));
  auto out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

std::string stop_matcher::flush() { return std::exchange(held_, {}); }

} // namespace troupe::policies

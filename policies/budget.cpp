#include "policies/budget.hpp"

#include <algorithm>

namespace troupe::policies {

namespace {

using std::chrono::days;
using std::chrono::floor;
using hours_point = std::chrono::time_point<std::chrono::system_clock, std::chrono::hours>;

int64_t hour_of(wall_time x) { return floor<std::chrono::hours>(x).time_since_epoch().count(); }

wall_time start_of(int64_t hour) { return hours_point{std::chrono::hours{hour}}; }

/// The day on which the calendar period of `day` began, or the one after it.
std::chrono::sys_days edge(budget_period::kind what, std::chrono::sys_days day, bool next) {
  using kind = budget_period::kind;
  if (what == kind::week) {
    const auto since_monday = std::chrono::weekday{day} - std::chrono::Monday;
    return day - since_monday + (next ? days{7} : days{0});
  }
  if (what == kind::month) {
    const std::chrono::year_month_day date{day};
    const auto month = date.year() / date.month() + std::chrono::months{next ? 1 : 0};
    return std::chrono::sys_days{month / 1};
  }
  return day + days{next ? 1 : 0};
}

int64_t first_hour(const budget_period& period, int64_t now) {
  if (period.what == budget_period::kind::hours)
    return now - int64_t{std::max(period.hours, 1u)} + 1;
  return hour_of(edge(period.what, floor<days>(start_of(now)), false));
}

} // namespace

double cost_of(const token_prices& prices, uint64_t prompt, uint64_t cached, uint64_t completion) {
  const auto known = std::min(cached, prompt);
  return prices.input * static_cast<double>(prompt - known) +
         prices.cached * static_cast<double>(known) +
         prices.output * static_cast<double>(completion);
}

void budget::forget(wall_time now) {
  const auto hour = hour_of(now);
  if (hour <= seen_)
    return;
  seen_ = hour;
  const auto first = first_hour(terms_.period, hour);
  if (hours_.empty() || hours_.front().hour >= first)
    return;
  std::erase_if(hours_, [first](const hour_cost& x) { return x.hour < first; });
  total_ = 0; // anew, so that no rounding stays behind
  for (const auto& one : hours_)
    total_ += one.cost;
}

void budget::charge(double cost, wall_time when) {
  forget(when);
  // Reading a ledger back, the hours come before `seen_`; a clock that was set back looks the same
  // and is harmless: the hour is still within the period, or it is not counted.
  const auto hour = hour_of(when);
  if (hour < first_hour(terms_.period, seen_))
    return;
  const auto at = std::lower_bound(hours_.begin(), hours_.end(), hour,
                                   [](const hour_cost& x, int64_t y) { return x.hour < y; });
  if (at != hours_.end() && at->hour == hour)
    at->cost += cost;
  else
    hours_.insert(at, {hour, cost});
  total_ += cost;
}

double budget::spent(wall_time now) {
  forget(now);
  return total_;
}

bool budget::warn(wall_time now) {
  if (!limited() || terms_.soft <= 0 || spent(now) < terms_.soft * terms_.limit)
    return false;
  const auto from = first_hour(terms_.period, seen_);
  // A sliding period is a new one when nothing of the one that was warned of counts any more.
  const bool sliding = terms_.period.what == budget_period::kind::hours;
  if (warned_from_ != INT64_MIN && from < warned_from_ + (sliding ? terms_.period.hours : 1))
    return false;
  warned_from_ = from;
  return true;
}

wall_time budget::next_relief(wall_time now) {
  forget(now);
  if (terms_.period.what != budget_period::kind::hours)
    return edge(terms_.period.what, floor<days>(now), true);
  const auto first = hours_.empty() ? hour_of(now) : hours_.front().hour;
  return start_of(first + std::max(terms_.period.hours, 1u));
}

wall_time budget::counts_from(wall_time now) const {
  return start_of(first_hour(terms_.period, hour_of(now)));
}

} // namespace troupe::policies

#pragma once
#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "actors/request_record.hpp"

namespace troupe::actors {

/// The last requests of a node, running ones included. Any thread may call.
class request_log {
public:
  /// Holds `size` of them at most; 0 = none.
  explicit request_log(size_t size) : size_{size} {}

  /// Notes a request, or what has become of it since it was noted.
  void put(request_record record);
  /// Notes what a load took with the finished requests that waited for it and do not know, and
  /// with those that end soon: short ones are over before the account of their load is in.
  void add_load(const model_id& model, const request_load& load);
  /// By the id of the request, or by that of its answer; of several, the newest.
  std::optional<request_record> find(const std::string& id) const;
  /// The newest ones, newest first, `count` at most.
  std::vector<request_record> newest(size_t count) const;

private:
  void forget_oldest();

  const size_t size_;
  mutable std::mutex mutex_;
  std::map<uint64_t, request_record> held_; ///< by number, so the oldest come first
  std::unordered_map<std::string, uint64_t> by_id_;
  /// The last account of each model, and when it came: perhaps just before the request's own end.
  std::map<model_id, std::pair<request_load, std::chrono::system_clock::time_point>> last_loads_;
};

} // namespace troupe::actors

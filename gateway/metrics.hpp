#pragma once
#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
class Registry;
template <class T>
class Family;
} // namespace prometheus

namespace troupe::actors {
class tenant_registry;
}

namespace troupe::gateway {

/// The gateway's families in the node's registry, which must outlive this. Those of several
/// listeners are the same ones: a registry hands out what it has by that name, and they count
/// together. Any thread.
class http_metrics {
public:
  explicit http_metrics(prometheus::Registry& registry);
  void request_started();
  /// `status` 499 stands for a client that left before its answer was complete.
  void request_finished(std::string_view route, int status, std::chrono::duration<double> took);
  /// A request that never became one: broken, too large.
  void request_refused(int status);
  void connection_opened();
  void connection_closed();

private:
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Histogram>& durations_;
  prometheus::Gauge& in_flight_;
  prometheus::Gauge& connections_;
  std::mutex lock_;
  /// Looking a metric up by its labels builds maps; the few that exist are kept.
  std::map<std::pair<std::string, int>, prometheus::Counter*, std::less<>> counters_;
  std::map<std::string, prometheus::Histogram*, std::less<>> histograms_;
};

/// The registry in Prometheus' text format, and after it what tenants use: from their accounts, so
/// that it is never another number than theirs. Beyond `tenants_shown_max` they are summed up as
/// "other".
std::string print_metrics(const prometheus::Registry& registry,
                          const actors::tenant_registry& tenants);
constexpr size_t tenants_shown_max = 500;

} // namespace troupe::gateway

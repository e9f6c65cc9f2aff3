// What tenants use and are refused, for the page of metrics.
#include <array>
#include <map>

#include <prometheus/metric_family.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "actors/tenant_registry.hpp"
#include "gateway/metrics.hpp"

namespace troupe::gateway {

namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

/// The sums of one tenant, or of all those that are not shown.
struct totals {
  uint64_t requests = 0, prompt_tokens = 0, completion_tokens = 0, running = 0;
  std::array<uint64_t, policies::quota_kinds> refused{};
  double spent = 0, budget = 0;
  void add(const actors::tenant_usage& x) {
    requests += x.requests;
    prompt_tokens += x.prompt_tokens;
    completion_tokens += x.completion_tokens;
    running += x.running;
    for (size_t i = 0; i < refused.size(); ++i)
      refused[i] += x.refused_by[i];
    spent += x.spent;
    budget += x.budget.limit;
  }
};

class family {
public:
  family(const char* name, const char* help, MetricType type) : out_{name, help, type, {}} {}
  void add(std::vector<prometheus::ClientMetric::Label> labels, double value) {
    prometheus::ClientMetric one;
    one.label = std::move(labels);
    if (out_.type == MetricType::Counter)
      one.counter.value = value;
    else
      one.gauge.value = value;
    out_.metric.push_back(std::move(one));
  }
  MetricFamily take() { return std::move(out_); }

private:
  MetricFamily out_;
};

std::map<std::string, totals> totals_of(const actors::tenant_registry& tenants) {
  const auto now = std::chrono::steady_clock::now();
  const auto wall = std::chrono::system_clock::now();
  std::map<std::string, totals> out;
  size_t shown = 0;
  for (const auto& one : tenants.all())
    out[++shown <= tenants_shown_max ? one->name() : "other"].add(one->usage(now, wall));
  return out;
}

} // namespace

std::string print_metrics(const prometheus::Registry& registry,
                          const actors::tenant_registry& tenants) {
  family requests{"troupe_tenant_requests_total", "Requests that a tenant's limits let in.",
                  MetricType::Counter};
  family tokens{"troupe_tenant_tokens_total", "Tokens of a tenant's prompts and answers.",
                MetricType::Counter};
  family refused{"troupe_tenant_limited_total",
                 "Requests over a limit, by limit; also where it is only watched.",
                 MetricType::Counter};
  family running{"troupe_tenant_requests_running", "Requests that are not answered yet.",
                 MetricType::Gauge};
  family budget{"troupe_tenant_budget_spent_ratio", "What of a tenant's budget is spent.",
                MetricType::Gauge};
  for (const auto& [name, of] : totals_of(tenants)) {
    requests.add({{"tenant", name}}, static_cast<double>(of.requests));
    tokens.add({{"tenant", name}, {"kind", "prompt"}}, static_cast<double>(of.prompt_tokens));
    tokens.add({{"tenant", name}, {"kind", "completion"}},
               static_cast<double>(of.completion_tokens));
    running.add({{"tenant", name}}, static_cast<double>(of.running));
    for (size_t i = 0; i < of.refused.size(); ++i)
      if (of.refused[i] > 0)
        refused.add(
            {{"tenant", name},
             {"limit", std::string{policies::name_of(static_cast<policies::quota_kind>(i))}}},
            static_cast<double>(of.refused[i]));
    if (of.budget > 0)
      budget.add({{"tenant", name}}, of.spent / of.budget);
  }
  auto page = registry.Collect();
  for (auto* one : {&requests, &tokens, &refused, &running, &budget})
    page.push_back(one->take());
  return prometheus::TextSerializer{}.Serialize(page);
}

} // namespace troupe::gateway

#include "gateway/metrics.hpp"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "gateway/api.hpp"

namespace troupe::gateway {

namespace {

const prometheus::Histogram::BucketBoundaries seconds_buckets{
    .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300};

prometheus::Gauge& gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

} // namespace

http_metrics::http_metrics(prometheus::Registry& registry)
    : requests_{prometheus::BuildCounter()
                    .Name("troupe_http_requests_total")
                    .Help("HTTP requests by route and status; 499: the client left first.")
                    .Register(registry)},
      durations_{prometheus::BuildHistogram()
                     .Name("troupe_http_request_duration_seconds")
                     .Help("From a request's last byte in to its last byte out.")
                     .Register(registry)},
      in_flight_{gauge(registry, "troupe_http_requests_in_flight",
                       "Requests not answered completely yet.")},
      connections_{gauge(registry, "troupe_http_connections", "Open client connections.")} {}

void http_metrics::request_started() { in_flight_.Increment(); }

void http_metrics::request_finished(std::string_view route, int status,
                                    std::chrono::duration<double> took) {
  in_flight_.Decrement();
  const std::string name{route};
  prometheus::Counter* counter = nullptr;
  prometheus::Histogram* histogram = nullptr;
  {
    std::lock_guard guard{lock_};
    auto& kept = counters_[{name, status}];
    if (!kept)
      kept = &requests_.Add({{"route", name}, {"code", std::to_string(status)}});
    counter = kept;
    auto& timed = histograms_[name];
    if (!timed)
      timed = &durations_.Add({{"route", name}}, seconds_buckets);
    histogram = timed;
  }
  counter->Increment();
  histogram->Observe(took.count());
}

void http_metrics::request_refused(int status) {
  requests_.Add({{"route", "none"}, {"code", std::to_string(status)}}).Increment();
}

void http_metrics::connection_opened() { connections_.Increment(); }

void http_metrics::connection_closed() { connections_.Decrement(); }

void api::metrics(const http_request&, const channel_ptr& channel, const std::string&) {
  http_response out;
  out.content_type = "text/plain; version=0.0.4; charset=utf-8";
  out.body = print_metrics(services_.metrics(), *options_.tenants);
  channel->send(std::move(out));
}

} // namespace troupe::gateway

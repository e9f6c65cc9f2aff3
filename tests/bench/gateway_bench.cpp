// What the gateway costs per streamed token, apart from any model: a stub node sends constant
// tokens to many chat streams, a reader on the same machine takes them off real sockets.
//
//   gateway/throughput/streams:N  a token for each stream every millisecond; chunks_per_core_second
//   counts the processor
//                                 time of everything but the reader (gateway, stub, kernel's share)
//   gateway/latency/streams:N/group:G/tenants:T
//                                 every stream gets a token each 50 ms, as if from engines with G
//                                 sequences each whose steps are spread evenly; from the call of
//                                 the sink to the bytes in the reader's hands. T = 1: by a tenant
//                                 with every limit there is, token by token
//   gateway/latency_floor/...     the same bytes at the same times, written to the sockets without
//   a
//                                 gateway: what is above it is the gateway's
//   gateway/request/connections:1 whole small requests, one after the other
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>
#include <prometheus/registry.h>

#include "gateway/server.hpp"

namespace {

using namespace troupe;
using clock_type = std::chrono::steady_clock;
using sink_ptr = std::shared_ptr<actors::reply_sink>;

struct no_handle final : actors::invocation_handle {
  void cancel() override {}
};

/// Collects the sinks of requests; a benchmark then plays the engine.
class stub_node final : public actors::services {
public:
  std::shared_ptr<actors::invocation_handle> invoke(actors::invocation_request,
                                                    sink_ptr sink) override {
    if (immediate) {
      sink->on_accepted(1);
      sink->on_text({0, "ok", {}});
      sink->on_finish(0, engine::finish_reason::stop);
      sink->on_done({1, 1, 0}, {});
      return nullptr;
    }
    std::lock_guard guard{lock_};
    sinks_.push_back(std::move(sink));
    changed_.notify_all();
    return std::make_shared<no_handle>();
  }
  std::vector<sink_ptr> wait_sinks(size_t count) {
    std::unique_lock guard{lock_};
    changed_.wait(guard, [&] { return sinks_.size() >= count; });
    return std::exchange(sinks_, {});
  }
  void models(actors::callback<std::vector<actors::model_status>>) override {}
  void model(const model_id&, actors::callback<actors::model_status>) override {}
  void frontend(const model_id&,
                actors::callback<std::shared_ptr<const engine::frontend>>) override {}
  void load(const model_id&, std::optional<bool>, actors::callback<actors::model_status>) override {
  }
  void unload(const model_id&, actors::callback<actors::model_status>) override {}
  void actors(actors::callback<std::vector<actors::actor_info>>) override {}
  bool ready() const override { return true; }
  prometheus::Registry& metrics() override { return registry_; }

  bool immediate = false;

private:
  prometheus::Registry registry_;
  std::mutex lock_;
  std::condition_variable changed_;
  std::vector<sink_ptr> sinks_;
};

/// A tenant that is never over any of its limits.
std::shared_ptr<const actors::tenant_registry> one_tenant() {
  actors::tenant_terms terms{.name = "acme"};
  terms.keys = {{sha256("key"), "bench", {}}};
  terms.limits = {.rpm = 1'000'000, .tpm = 1'000'000'000, .concurrency = 100'000};
  terms.budget = {.limit = 1e15, .soft = 0.8, .period = {}, .prices = {1, 0.1, 4}};
  return std::make_shared<const actors::tenant_registry>(std::vector{std::move(terms)});
}

std::unique_ptr<gateway::server> start_server(stub_node& node, bool tenants = false) {
  gateway::server_options options;
  if (tenants)
    options.tenants = one_tenant();
  options.port = 0;
  auto started = gateway::server::start(options, node);
  if (!started)
    std::abort();
  return std::move(*started);
}

int open_connection(uint16_t port) {
  const int out = ::socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  ::setsockopt(out, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(out, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0)
    std::abort();
  return out;
}

void send_request(int socket, bool stream) {
  const std::string body = std::string{R"({"model":"m","stream":)"} + (stream ? "true" : "false") +
                           R"(,"messages":[{"role":"user","content":"Hello"}]})";
  const auto request = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                       "key\r\nContent-Length: " +
                       std::to_string(body.size()) + "\r\n\r\n" + body;
  if (::send(socket, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size()))
    std::abort();
}

double seconds_of(const timeval& t) {
  return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
}

double cpu_seconds(int who) {
  rusage used{};
  getrusage(who, &used);
  return seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
}

/// Reads many sockets until each has seen the end of its stream.
class stream_reader {
public:
  explicit stream_reader(const std::vector<int>& sockets) : left_{sockets.size()} {
    epoll_ = ::epoll_create1(0);
    for (const int one : sockets) {
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.fd = one;
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, one, &event);
    }
  }
  ~stream_reader() { ::close(epoll_); }

  void run() {
    std::vector<char> bytes(256 << 10);
    epoll_event events[64];
    while (left_ > 0) {
      const int count = ::epoll_wait(epoll_, events, 64, -1);
      for (int i = 0; i < count; ++i) {
        const auto size = ::recv(events[i].data.fd, bytes.data(), bytes.size(), 0);
        if (size <= 0)
          std::abort();
        look({bytes.data(), static_cast<size_t>(size)}, clock_type::now());
      }
    }
    cpu = cpu_seconds(RUSAGE_THREAD);
  }

  std::vector<double> latencies_us;
  double cpu = 0;

private:
  void look(std::string_view text, clock_type::time_point now) {
    for (size_t at = 0; (at = text.find('@', at)) != text.npos; ++at) {
      const auto sent = clock_type::time_point{
          clock_type::duration{std::strtoll(text.data() + at + 1, nullptr, 10)}};
      latencies_us.push_back(std::chrono::duration<double, std::micro>(now - sent).count());
    }
    for (size_t at = 0; (at = text.find("[DONE]", at)) != text.npos; ++at)
      --left_;
  }

  int epoll_ = -1;
  size_t left_;
};

/// For `rounds` periods of 50 ms: `send(i)` for each of `streams`, in groups at even distances.
template <class Send>
void pace(size_t streams, size_t group, size_t rounds, Send send) {
  constexpr std::chrono::nanoseconds period = std::chrono::milliseconds{50};
  const auto groups = (streams + group - 1) / group;
  const auto begun = clock_type::now();
  for (size_t round = 0; round < rounds; ++round)
    for (size_t i = 0; i < streams; ++i) {
      if (i % group == 0)
        std::this_thread::sleep_until(begun + round * period + period * (i / group) / groups);
      send(i);
    }
}

std::string stamp() {
  return "@" + std::to_string(clock_type::now().time_since_epoch().count()) + " ";
}

double quantile(std::vector<double>& values, double q) {
  const auto at = static_cast<size_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(at), values.end());
  return values[at];
}

/// Opens `streams` chats and lets `play` be their engine while a reader thread takes what comes.
template <class Play>
stream_reader run_streams(stub_node& node, uint16_t port, size_t streams, Play play) {
  std::vector<int> sockets;
  for (size_t i = 0; i < streams; ++i) {
    sockets.push_back(open_connection(port));
    send_request(sockets.back(), true);
  }
  auto sinks = node.wait_sinks(streams);
  stream_reader reader{sockets};
  std::thread thread{[&] { reader.run(); }};
  play(sinks);
  for (auto& one : sinks) {
    one->on_finish(0, engine::finish_reason::stop);
    one->on_done({1, 1, 0}, {});
  }
  thread.join();
  for (const int one : sockets)
    ::close(one);
  return reader;
}

void throughput(benchmark::State& state) {
  stub_node node;
  auto edge = start_server(node);
  const auto streams = static_cast<size_t>(state.range(0));
  const auto tokens = std::min<size_t>(200'000 / streams, 3000);
  double cpu = 0, chunks = 0;
  for (auto unused : state) {
    const auto before = cpu_seconds(RUSAGE_SELF);
    const auto reader = run_streams(node, edge->port(), streams, [&](std::vector<sink_ptr>& sinks) {
      for (size_t i = 0; i < tokens; ++i) {
        for (auto& one : sinks)
          one->on_text({0, " token", {}});
        // Up to 1,000 steps a second, more than engines make: tokens that come faster than they
        // can be sent share writes, which would flatter the result.
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
      }
    });
    cpu += cpu_seconds(RUSAGE_SELF) - before - reader.cpu;
    chunks += static_cast<double>(streams * tokens);
  }
  state.counters["chunks_per_core_second"] = chunks / cpu;
  state.SetItemsProcessed(static_cast<int64_t>(chunks));
}

void show(benchmark::State& state, std::vector<double>& latencies_us) {
  state.counters["p50_us"] = quantile(latencies_us, 0.5);
  state.counters["p99_us"] = quantile(latencies_us, 0.99);
}

constexpr size_t paced_rounds = 80;

void latency(benchmark::State& state) {
  stub_node node;
  auto edge = start_server(node, state.range(2) == 1);
  const auto streams = static_cast<size_t>(state.range(0));
  std::vector<double> all;
  for (auto unused : state) {
    auto reader = run_streams(node, edge->port(), streams, [&](std::vector<sink_ptr>& sinks) {
      for (auto& one : sinks)
        one->on_accepted(1);
      uint32_t made = 0;
      pace(streams, static_cast<size_t>(state.range(1)), paced_rounds, [&](size_t i) {
        made += i == 0;
        auto text = stamp();
        sinks[i]->on_token({1, made, 0});
        sinks[i]->on_text({0, std::move(text), {}});
      });
    });
    all.insert(all.end(), reader.latencies_us.begin(), reader.latencies_us.end());
  }
  show(state, all);
}

/// Connected sockets: those that write, and those that read.
std::pair<std::vector<int>, std::vector<int>> connect_pairs(size_t count) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  if (::bind(listener, reinterpret_cast<sockaddr*>(&at), size) != 0 ||
      ::listen(listener, 128) != 0 ||
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size) != 0)
    std::abort();
  std::pair<std::vector<int>, std::vector<int>> out;
  const int on = 1;
  for (size_t i = 0; i < count; ++i) {
    out.second.push_back(open_connection(ntohs(at.sin_port)));
    out.first.push_back(::accept(listener, nullptr, nullptr));
    ::setsockopt(out.first.back(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ::close(listener);
  return out;
}

void latency_floor(benchmark::State& state) {
  const auto streams = static_cast<size_t>(state.range(0));
  const auto [writing, reading] = connect_pairs(streams);
  std::vector<double> all;
  for (auto unused : state) {
    stream_reader reader{reading};
    std::thread thread{[&] { reader.run(); }};
    const auto write = [&](size_t i, const std::string& text) {
      if (::send(writing[i], text.data(), text.size(), MSG_NOSIGNAL) < 0)
        std::abort();
    };
    // About as long as an event of the API.
    const std::string rest(200, ' ');
    pace(streams, static_cast<size_t>(state.range(1)), paced_rounds,
         [&](size_t i) { write(i, stamp() + rest); });
    for (size_t i = 0; i < streams; ++i)
      write(i, "[DONE]");
    thread.join();
    all = std::move(reader.latencies_us);
  }
  for (const auto* both : {&writing, &reading})
    for (const int one : *both)
      ::close(one);
  show(state, all);
}

void request(benchmark::State& state) {
  stub_node node;
  node.immediate = true;
  auto edge = start_server(node);
  const int socket = open_connection(edge->port());
  char bytes[4096];
  for (auto unused : state) {
    send_request(socket, false);
    if (::recv(socket, bytes, sizeof bytes, 0) <= 0)
      std::abort();
  }
  ::close(socket);
}

} // namespace

BENCHMARK(throughput)
    ->Name("gateway/throughput")
    ->ArgName("streams")
    ->Arg(1)
    ->Arg(64)
    ->Arg(512)
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(latency)
    ->Name("gateway/latency")
    ->ArgNames({"streams", "group", "tenants"})
    ->ArgsProduct({{1, 64, 1000}, {1, 64}, {0, 1}})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(latency_floor)
    ->Name("gateway/latency_floor")
    ->ArgNames({"streams", "group"})
    ->ArgsProduct({{1, 64, 1000}, {1, 64}})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(request)->Name("gateway/request")->UseRealTime();

int main(int argc, char** argv) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max; // a thousand streams have two ends each
  ::setrlimit(RLIMIT_NOFILE, &files);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}

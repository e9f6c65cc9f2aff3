// The data plane over loopback, links limited by `peer_server_options::bytes_per_second`.
//
//   peer_bench --benchmark_filter=stream        one stream, beside plain sockets
//   peer_bench --benchmark_filter=sources       two limited nodes at once; one of them killed
//   peer_bench --benchmark_filter=fan_out       one node to 16, against the bound
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <random>
#include <thread>

#include <sys/socket.h>

#include <benchmark/benchmark.h>

#include "policies/fan_out.hpp"
#include "storage/peers/peer_links.hpp"
#include "storage/peers/peer_server.hpp"
#include "storage/peers/peer_source.hpp"
#include "storage/pipeline/source_origin.hpp"

namespace {

using namespace troupe;
using namespace troupe::storage;
using clock_type = std::chrono::steady_clock;

constexpr const char* model_name = "m";

double since(clock_type::time_point began) {
  return std::chrono::duration<double>(clock_type::now() - began).count();
}

template <class T>
T must(caf::expected<T> x) {
  if (!x) {
    std::fprintf(stderr, "%s\n", describe(x.error()).c_str());
    std::abort();
  }
  return std::move(*x);
}

/// A safetensors model of one tensor in a directory of its own.
class model_files {
public:
  explicit model_files(uint64_t bytes) {
    auto pattern = (std::filesystem::temp_directory_path() / "troupe-bench-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
    const auto size = std::to_string(bytes);
    const auto header =
        R"({"a":{"dtype":"U8","shape":[)" + size + R"(],"data_offsets":[0,)" + size + "]}}";
    const uint64_t length = header.size();
    std::ofstream out{path_ / "model.safetensors", std::ios::binary};
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out << header;
    std::mt19937_64 random{1};
    std::vector<uint64_t> block(1 << 17);
    for (uint64_t at = 0; at < bytes; at += 8 * block.size()) {
      for (auto& x : block)
        x = random();
      out.write(reinterpret_cast<const char*>(block.data()),
                static_cast<std::streamsize>(std::min<uint64_t>(bytes - at, 8 * block.size())));
    }
  }
  ~model_files() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

private:
  std::filesystem::path path_;
};

/// A node with a pool and a data plane.
struct node {
  node(uint64_t pool_bytes, uint32_t chunk_bytes, uint64_t rate) {
    weight_tiers_options options;
    options.pool.size_bytes = pool_bytes;
    options.pool.chunk_bytes = chunk_bytes;
    options.map_cached_files = false;
    tiers = must(weight_tiers::open(options));
    models = std::make_shared<shared_models>(tiers, "", "node");
    server = must(peer_server::start(
        {.listen = {"127.0.0.1", 0}, .node = "node", .bytes_per_second = rate}, models));
  }
  host_port at() const { return {"127.0.0.1", server->port()}; }

  std::shared_ptr<weight_tiers> tiers;
  std::shared_ptr<shared_models> models;
  std::unique_ptr<peer_links> links = std::make_unique<peer_links>();
  std::unique_ptr<peer_server> server;
};

/// A load that counts, and keeps what it loads.
class running_load {
public:
  running_load(node& on, std::shared_ptr<chunk_origin> from) : on_{on} {
    const auto size = from->size_bytes();
    auto sums = file_sums::received("w", size, on.tiers->chunk_bytes(), {});
    load_ = on.tiers->pipeline().start(
        {{{std::move(from), std::move(sums)}}, {{0, 0, size}}}, load_priority::demand,
        {.chunk =
             [this](loaded_chunk x) {
               const std::lock_guard guard{mutex_};
               kept_.push_back(std::move(x.bytes));
               bytes_ += kept_.back().bytes().size();
               changed_.notify_all();
               return caf::error{};
             },
         .progress = {},
         .done =
             [this](caf::error why) {
               const std::lock_guard guard{mutex_};
               over_ = true;
               if (why)
                 std::fprintf(stderr, "%s\n", describe(why).c_str()), std::abort();
               changed_.notify_all();
             }});
  }
  void wait_for(uint64_t bytes) {
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [&] { return bytes_ >= bytes; });
  }
  void wait() {
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [this] { return over_; });
  }

private:
  node& on_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<chunk_lease> kept_;
  uint64_t bytes_ = 0;
  bool over_ = false;
  std::shared_ptr<load> load_;
};

peer_file weights_at(node& from, const host_port& at) {
  for (auto& file : must(list_at_peer(*from.links, at, model_name)))
    if (file.is_weights)
      return file;
  std::abort();
}

std::shared_ptr<chunk_origin> origin(node& to, const host_port& at, const peer_file& file,
                                     uint32_t patience_ms = 0) {
  return make_peer_origin(
      *to.links, {.at = at, .model = model_name, .file = file, .patience_ms = patience_ms});
}

/// The floor: as many bytes through one connection, from one buffer into another.
double plain_sockets(uint64_t bytes) {
  const auto listening = must(listen_at({"127.0.0.1", 0}));
  std::thread sender{[&] {
    const descriptor to{::accept(listening.get(), nullptr, nullptr)};
    const std::vector<std::byte> block(4u << 20, std::byte{7});
    for (uint64_t sent = 0; sent < bytes; sent += block.size())
      (void)send_all(to.get(), block);
  }};
  wake_event never;
  const auto from =
      must(connect_to({"127.0.0.1", port_of(listening.get())}, std::chrono::seconds{5}, never));
  std::vector<std::byte> into(4u << 20);
  const auto began = clock_type::now();
  for (uint64_t got = 0; got < bytes; got += into.size())
    (void)receive_all(from.get(), into, std::chrono::seconds{10});
  const auto seconds = since(began);
  sender.join();
  return seconds;
}

void stream(benchmark::State& state) {
  const uint64_t bytes = uint64_t{static_cast<uint64_t>(state.range(0))} << 20;
  const model_files model{bytes};
  node giving{2 * bytes, 4u << 20, 0};
  giving.models->offer(model_name, model.path());
  {
    const auto disk = must(disk_file::open(model.path() / "model.safetensors"));
    running_load{giving, make_disk_origin(giving.tiers->reader(), disk)}.wait();
  }
  double plain = 0, plane = 0;
  for (auto _ : state) {
    node taking{2 * bytes, 4u << 20, 0};
    const auto file = weights_at(taking, giving.at());
    const auto began = clock_type::now();
    running_load load{taking, origin(taking, giving.at(), file)};
    load.wait();
    const auto seconds = since(began);
    state.SetIterationTime(seconds);
    plane += seconds;
    plain += plain_sockets(bytes);
  }
  state.counters["of_plain_sockets"] = plain / plane;
  state.counters["plain_GB_s"] =
      static_cast<double>(bytes) * static_cast<double>(state.iterations()) / plain / 1e9;
  state.SetBytesProcessed(static_cast<int64_t>(bytes) * state.iterations());
}
BENCHMARK(stream)->ArgName("MiB")->Arg(512)->UseManualTime()->Unit(benchmark::kMillisecond);

constexpr uint64_t slow_rate = 64'000'000, slower_rate = 32'000'000;

/// What two limited nodes give together, in parts of the sum of their links.
void sources(benchmark::State& state) {
  const uint64_t bytes = 128u << 20;
  const model_files model{bytes};
  for (auto _ : state) {
    node one{64u << 20, 1u << 20, slow_rate}, other{64u << 20, 1u << 20, slower_rate};
    one.models->offer(model_name, model.path());
    other.models->offer(model_name, model.path());
    node taking{2 * bytes, 1u << 20, 0};
    const auto a = weights_at(taking, one.at()), b = weights_at(taking, other.at());
    const auto began = clock_type::now();
    running_load load{
        taking, make_joint_origin({origin(taking, one.at(), a), origin(taking, other.at(), b)})};
    load.wait();
    const auto seconds = since(began);
    state.SetIterationTime(seconds);
    state.counters["of_sum"] =
        static_cast<double>(bytes) / seconds / static_cast<double>(slow_rate + slower_rate);
  }
}
BENCHMARK(sources)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(3);

/// One of two is killed in the middle: what it costs beyond the bytes that the other has to send.
void sources_killed(benchmark::State& state) {
  const uint64_t bytes = 128u << 20;
  const model_files model{bytes};
  for (auto _ : state) {
    auto one = std::make_unique<node>(64u << 20, 1u << 20, slow_rate);
    node other{64u << 20, 1u << 20, slow_rate};
    one->models->offer(model_name, model.path());
    other.models->offer(model_name, model.path());
    node taking{2 * bytes, 1u << 20, 0};
    const auto a = weights_at(taking, one->at()), b = weights_at(taking, other.at());
    const auto began = clock_type::now();
    running_load load{
        taking, make_joint_origin({origin(taking, one->at(), a), origin(taking, other.at(), b)})};
    load.wait_for(bytes / 2);
    const auto lost_at = since(began);
    const auto lost = std::chrono::steady_clock::now();
    one->server.reset();
    const auto closing = since(lost);
    load.wait();
    const auto seconds = since(began);
    state.SetIterationTime(seconds);
    const auto ideal = lost_at + static_cast<double>(bytes / 2) / static_cast<double>(slow_rate);
    state.counters["extra_ms"] = 1e3 * (seconds - ideal);
    state.counters["closing_ms"] = 1e3 * closing;
  }
}
BENCHMARK(sources_killed)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(3);

/// One node to many, all links limited alike.
void fan_out(benchmark::State& state) {
  const auto nodes = static_cast<uint32_t>(state.range(0));
  const uint64_t bytes = 32u << 20;
  constexpr uint32_t chunk = 256u << 10;
  constexpr uint64_t rate = 16'000'000;
  const model_files model{bytes};
  for (auto _ : state) {
    node first{64u << 20, chunk, rate};
    first.models->offer(model_name, model.path());
    std::vector<std::unique_ptr<node>> all;
    for (uint32_t i = 0; i < nodes; ++i)
      all.push_back(std::make_unique<node>(2 * bytes, chunk, rate));
    const auto file = weights_at(*all.front(), first.at());
    const auto began = clock_type::now();
    std::vector<std::unique_ptr<running_load>> loads;
    for (uint32_t i = 0; i < nodes; ++i) {
      auto& me = *all[i];
      me.models->set_loading(model_name, true);
      me.models->offer_received(model_name, model.path() / "nowhere", {file});
      std::vector<std::shared_ptr<chunk_origin>> members{origin(me, first.at(), file)};
      for (const auto& other : all)
        members.push_back(origin(me, other->at(), file, 10'000));
      loads.push_back(std::make_unique<running_load>(
          me, make_routed_origin(std::move(members), [i, nodes](uint64_t offset) {
            return policies::fan_out_route(i + 1, nodes + 1, offset / chunk);
          })));
    }
    for (const auto& load : loads)
      load->wait();
    const auto seconds = since(began);
    state.SetIterationTime(seconds);
    const auto bound =
        policies::fan_out_bound(static_cast<double>(file.size_bytes), static_cast<double>(rate),
                                nodes + 1, static_cast<double>(bytes) / chunk);
    state.counters["of_bound"] = seconds / bound;
    state.counters["sent_by_first"] =
        static_cast<double>(first.server->sent_bytes()) / static_cast<double>(bytes);
    for (auto& one : all)
      one->server.reset();
  }
}
BENCHMARK(fan_out)
    ->ArgName("nodes")
    ->Arg(1)
    ->Arg(4)
    ->Arg(16)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(3);

} // namespace

BENCHMARK_MAIN();

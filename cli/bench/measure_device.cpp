#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include "cli/bench/measure.hpp"
#include "cli/bench/pool_memory.hpp"
#include "engine/model/weight_job.hpp"

namespace troupe::cli::bench {
namespace {

using clock = std::chrono::steady_clock;

double seconds_since(clock::time_point begun) {
  return std::chrono::duration<double>(clock::now() - begun).count();
}

result begin_result(const subject& of, const char* measure, const char* variant, uint32_t reps) {
  result out;
  out.model = of.model;
  out.dtype = of.dtype;
  out.measure = measure;
  out.variant = variant;
  out.reps = reps;
  return out;
}

/// Device memory with something in it.
template <class T>
caf::expected<gpu::buffer> filled(gpu::device& device, const std::vector<T>& from) {
  auto memory = device.allocate(from.size() * sizeof(T));
  if (memory)
    device.copy_to_device(memory->data(), from.data(), from.size() * sizeof(T));
  return memory;
}

std::vector<float> noise(size_t count) {
  std::vector<float> out(count);
  std::minstd_rand random{7};
  for (auto& one : out)
    one = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
  return out;
}

/// Everything that one layer's attention reads, for a single prompt.
class attention_case {
public:
  attention_case(subject& of, uint32_t tokens) : of_{of}, tokens_{tokens} {}

  caf::error make() {
    const auto& config = of_.config;
    const auto blocks = (tokens_ + block_size - 1) / block_size;
    const auto side_bytes = block_size * config.kv_size() * 2;
    const auto granules = (2 * side_bytes + gpu::kv_granule - 1) / gpu::kv_granule;
    const auto cache_bytes = static_cast<uint64_t>(blocks * granules * gpu::kv_granule);
    std::vector<int32_t> table;
    for (int64_t i = 0; i < blocks; ++i)
      table.push_back(static_cast<int32_t>(i * granules));
    std::vector<int64_t> slots;
    for (int64_t i = 0; i < tokens_; ++i)
      slots.push_back(i / block_size * granules * block_size + i % block_size);
    auto& device = *of_.device;
    take(kv_, device.allocate(cache_bytes));
    take(q_, filled(device, noise(static_cast<size_t>(tokens_ * config.q_size()))));
    take(out_, device.allocate(static_cast<size_t>(tokens_ * config.q_size()) * sizeof(float)));
    take(rows_, filled(device, noise(static_cast<size_t>(tokens_ * config.kv_size()))));
    take(slots_, filled(device, slots));
    take(row_start_, filled(device, std::vector<int32_t>{0, static_cast<int32_t>(tokens_)}));
    take(context_, filled(device, std::vector<int32_t>{static_cast<int32_t>(tokens_)}));
    take(table_, filled(device, table));
    if (why_)
      return why_;
    blocks_ = blocks;
    cache_ = {kv_.as<std::byte>(), cache_bytes,     dtype::bf16, config.kv_heads,
              block_size,          config.head_dim, 0,           side_bytes};
    const auto* rows = rows_.as<float>();
    device.kv_write(
        {rows, rows, cache_, slots_.as<int64_t>(), tokens_, config.kv_size(), config.kv_size()});
    return device.synchronize();
  }

  void queue() {
    const auto& config = of_.config;
    gpu::attention_args args;
    args.q = q_.as<float>();
    args.cache = cache_;
    args.row_start = row_start_.as<int32_t>();
    args.context = context_.as<int32_t>();
    args.block_table = table_.as<int32_t>();
    args.table_stride = blocks_;
    args.sequences = 1;
    args.heads = config.heads;
    args.scale = 0.125f;
    args.out = out_.as<float>();
    args.q_stride = args.out_stride = config.q_size();
    args.rows = tokens_;
    of_.device->attention(args);
  }

private:
  static constexpr int64_t block_size = 16;

  void take(gpu::buffer& to, caf::expected<gpu::buffer> from) {
    if (from)
      to = std::move(*from);
    else
      why_ = from.error();
  }

  subject& of_;
  const int64_t tokens_;
  int64_t blocks_ = 0;
  gpu::buffer kv_, q_, out_, rows_, slots_, row_start_, context_, table_;
  gpu::kv_cache_view cache_;
  caf::error why_;
};

/// Memory of a host pool that is copied to a device again and again as a load copies a tensor of a
/// checkpoint.
class upload {
public:
  upload(subject& of, uint64_t bytes)
      : queue_{of.device->second_queue()}, size_bytes_{bytes}, device_{*of.device} {}

  caf::error make() {
    auto source = pool_memory::make(size_bytes_, device_.pinner());
    if (!source)
      return source.error();
    from_ = std::move(*source);
    auto memory = device_.allocate(size_bytes_);
    if (!memory)
      return memory.error();
    to_ = std::move(*memory);
    return device_.synchronize();
  }
  explicit operator bool() const { return queue_ != nullptr; }
  uint64_t size_bytes() const { return size_bytes_; }

  /// As if the memory was not pinned, if not `pinned`.
  caf::error run(bool pinned) {
    const auto rows = static_cast<int64_t>(size_bytes_ / (2 * cols));
    engine::weight_job job;
    job.from.type = dtype::bf16;
    job.from.shape = {rows, cols};
    job.from.data = from_->bytes().data();
    if (pinned)
      job.from.pinned = [this](const std::byte* at, uint64_t size_bytes) {
        return from_->pinned(at, size_bytes);
      };
    job.to = {to_.data(), dtype::bf16, rows, cols};
    job.memory = to_.data();
    return engine::run_job(job, *queue_);
  }

  static constexpr int64_t cols = 4096;

private:
  std::unique_ptr<gpu::device> queue_;
  const uint64_t size_bytes_;
  std::unique_ptr<pool_memory> from_;
  gpu::device& device_;
  gpu::buffer to_;
};

/// Decodes one sequence; a step at a time.
class decoding {
public:
  explicit decoding(subject& of) : model_{*of.engine} {}
  ~decoding() { model_.cancel({0, 0}); }
  decoding(const decoding&) = delete;
  decoding& operator=(const decoding&) = delete;

  caf::error begin(uint32_t steps) {
    engine::sequence_request request;
    request.id = {0, 0};
    request.tokens = {1};
    request.prompt_size = 1;
    request.sampling.temperature = 0;
    request.sampling.max_tokens = steps + 1;
    request.sampling.ignore_eos = true;
    if (auto why = model_.add(std::move(request)))
      return why;
    return step();
  }
  caf::error step() {
    const auto events = model_.step();
    return events ? caf::error{} : events.error();
  }

private:
  engine::engine& model_;
};

constexpr uint32_t steps_of_a_rep = 16;

result of_values(result one, const char* unit, std::vector<double> values) {
  one.unit = unit;
  one.value = summarize(std::move(values));
  return one;
}

} // namespace

caf::expected<result> measure_attention(subject& of, uint32_t tokens, uint32_t reps) {
  attention_case work{of, tokens};
  if (auto why = work.make())
    return why;
  std::vector<double> seconds;
  const neighbours others;
  for (uint32_t rep = 0; rep <= reps; ++rep) {
    constexpr int calls = 4; // so that waiting for the device does not count
    const auto begun = clock::now();
    for (int i = 0; i < calls; ++i)
      work.queue();
    if (auto why = of.device->synchronize())
      return why;
    if (rep > 0) // the first one warms up
      seconds.push_back(seconds_since(begun) / calls);
  }
  auto out = of_values(begin_result(of, "attention", "", reps), "s", std::move(seconds));
  out.tokens = tokens;
  out.seconds = out.value.median;
  out.flops = 2.0 * tokens * (tokens + 1.0) * static_cast<double>(of.config.q_size());
  out.arithmetic = of.arithmetic();
  out.others = others.share();
  return out;
}

caf::expected<std::vector<result>> measure_upload(subject& of, uint32_t reps,
                                                  const std::atomic<bool>& stop) {
  constexpr uint64_t most = uint64_t{1} << 30, unit = 2 * upload::cols;
  upload work{of, std::clamp<uint64_t>(of.weight_bytes / unit, 1, most / unit) * unit};
  if (!work)
    return std::vector<result>{};
  if (auto why = work.make())
    return why;
  const auto bytes = static_cast<double>(work.size_bytes());
  std::vector<double> unpinned, alone, beside, token_alone, token_beside;
  for (const bool pinned : {false, true})
    for (uint32_t rep = 0; rep <= reps && !stop; ++rep) {
      const auto begun = clock::now();
      if (auto why = work.run(pinned))
        return why;
      if (rep > 0)
        (pinned ? alone : unpinned).push_back(bytes / seconds_since(begun) / 1e9);
    }
  decoding model{of};
  if (auto why = model.begin(2 * (reps + 1) * steps_of_a_rep))
    return why;
  for (uint32_t rep = 0; rep < 2 * (reps + 1) && !stop; ++rep) {
    const bool uploads = rep % 2 == 1;
    uint64_t passes = 0;
    caf::error failed;
    const auto begun = clock::now();
    {
      std::jthread copying;
      if (uploads)
        copying = std::jthread{[&](const std::stop_token& enough) {
          do {
            failed = work.run(true);
            ++passes;
          } while (!failed && !enough.stop_requested());
        }};
      for (uint32_t i = 0; i < steps_of_a_rep; ++i)
        if (auto why = model.step())
          return why;
      if (rep >= 2)
        (uploads ? token_beside : token_alone)
            .push_back(seconds_since(begun) * 1000 / steps_of_a_rep);
    }
    if (failed)
      return failed;
    if (uploads && rep >= 2) // the last pass ends a little after the last step
      beside.push_back(bytes * static_cast<double>(passes) / seconds_since(begun) / 1e9);
  }
  if (stop)
    return std::vector<result>{};
  const auto make = [&](const char* variant, const char* of_unit, std::vector<double> values) {
    return of_values(begin_result(of, "upload", variant, reps), of_unit, std::move(values));
  };
  return std::vector<result>{make("unpinned", "GB/s", std::move(unpinned)),
                             make("alone", "GB/s", std::move(alone)),
                             make("while decoding", "GB/s", std::move(beside)),
                             make("token alone", "ms", std::move(token_alone)),
                             make("token beside an upload", "ms", std::move(token_beside))};
}

} // namespace troupe::cli::bench

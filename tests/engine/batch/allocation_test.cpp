#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/model/workspace.hpp"
#include "tests/engine/model/golden_model.hpp"

namespace {
std::atomic<size_t> allocations{0};

void* count_and_allocate(size_t size, size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  const auto whole = (size + alignment - 1) / alignment * alignment;
  if (void* out = std::aligned_alloc(alignment, whole == 0 ? alignment : whole))
    return out;
  throw std::bad_alloc{};
}
} // namespace

// The array and nothrow forms call these by default.
void* operator new(size_t size) { return count_and_allocate(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) {
  return count_and_allocate(size, static_cast<size_t>(alignment));
}
void operator delete(void* at) noexcept { std::free(at); }
void operator delete(void* at, size_t) noexcept { std::free(at); }
void operator delete(void* at, std::align_val_t) noexcept { std::free(at); }
void operator delete(void* at, size_t, std::align_val_t) noexcept { std::free(at); }

namespace troupe::engine {
namespace {

/// Sequences that use every way to choose a token.
sequence_request varied(const golden::model& model, uint64_t id) {
  auto out = golden::request(id, model.prompt, 80, id % 3 == 0 ? 0.0f : 0.8f, id);
  auto& sampling = out.sampling;
  sampling.top_p = id % 4 == 1 ? 0.9f : 1.0f;
  sampling.top_k = id % 4 == 2 ? 20 : 0;
  sampling.min_p = id % 4 == 3 ? 0.05f : 0.0f;
  sampling.frequency_penalty = id % 2 ? 0.3f : 0.0f;
  sampling.logit_bias = {{2, 1.0f}};
  return out;
}

TEST(allocations, decoding_steps_take_no_memory_from_the_heap) {
  const auto neighbour = golden::load("qwen2");
  for (const auto& name : golden::names()) {
    const auto model = golden::load(name);
    gpu::device_options device_options;
    device_options.threads = 1; // or chance would say when the last thread's scratch has grown
    auto device = gpu::make_cpu_device(device_options);
    // Another model runs in the same workspace meanwhile.
    const device_share share{nullptr, std::make_shared<workspace>(*device)};
    const auto open = [&](const golden::model& of) {
      auto made =
          engine::create(of.config, of.lookup(), of.checkpoint, *device, {}, nullptr, share);
      EXPECT_TRUE(made) << describe(made.error());
      return std::move(*made);
    };
    const auto engine = open(model), other = open(neighbour);
    // The first round is as large as the second one, so that every buffer has grown by then.
    for (const bool is_warm : {false, true}) {
      for (uint64_t id = 0; id < 8; ++id)
        ASSERT_FALSE(engine->add(varied(model, id)));
      ASSERT_FALSE(other->add(varied(neighbour, 0)));
      for (int step = 0; !engine->idle(); ++step) {
        const auto before = allocations.load();
        const auto events = engine->step();
        const auto beside = other->step();
        const auto after = allocations.load();
        ASSERT_TRUE(events && beside);
        if (is_warm && step >= 4) { // all have started
          ASSERT_EQ(after - before, 0u) << name << ", step " << step;
        }
      }
    }
  }
}

} // namespace
} // namespace troupe::engine

#include "engine/model/weight_twins.hpp"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/errors.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "tests/engine/model/true_copy.hpp"

/// Weights that come from another device that has them.
namespace troupe::engine {
namespace {

gpu::device_options two_threads(gpu::precision mode = gpu::precision::automatic) {
  gpu::device_options out;
  out.threads = 2;
  out.mode = mode;
  return out;
}

/// Lets copies from other devices through one by one, as somebody says.
struct gate {
  std::mutex mutex;
  std::condition_variable changed;
  size_t let_through = SIZE_MAX, begun = 0;

  void pass() {
    std::unique_lock guard{mutex};
    ++begun;
    changed.notify_all();
    changed.wait(guard, [this] { return begun <= let_through; });
  }
  void open(size_t count) {
    const std::lock_guard guard{mutex};
    let_through = count;
    changed.notify_all();
  }
  void wait_begun(size_t count) {
    std::unique_lock guard{mutex};
    changed.wait(guard, [&] { return begun >= count; });
  }
};

class gated_device final : public gpu::cpu::cpu_device {
public:
  explicit gated_device(std::shared_ptr<gate> way)
      : cpu_device{two_threads()}, way_{std::move(way)} {}
  std::unique_ptr<gpu::device> second_queue() override {
    return std::make_unique<gated_device>(way_);
  }
  gpu::memory_home home() const override { return {cpu_device::home().layout, 1}; }
  void copy_from(const gpu::memory_home& other, void* to, const void* from, size_t size) override {
    way_->pass();
    cpu_device::copy_from(other, to, from, size);
  }

private:
  std::shared_ptr<gate> way_;
};

/// Nothing can be read by this name: what has it comes from another device.
const weight_lookup none;

class twins : public testing::Test {
protected:
  golden::model model = golden::load("llama_gqa_tied");
  std::shared_ptr<weight_twins> all = std::make_shared<weight_twins>();
  std::unique_ptr<gpu::device> first = gpu::make_cpu_device(two_threads());
  std::unique_ptr<gpu::device> second = gpu::make_cpu_device(two_threads());

  static engine_options options(quantization quantize, std::function<void()> on_weights = {}) {
    engine_options out;
    out.quantize = quantize;
    out.on_weights = std::move(on_weights);
    return out;
  }
  caf::expected<std::unique_ptr<engine>> make(gpu::device& device, const weight_lookup& lookup,
                                              const engine_options& how,
                                              const std::string& name = "m") {
    return engine::create(model.config, lookup, model.checkpoint, device, how, nullptr,
                          {nullptr, nullptr, all}, name);
  }
  std::unique_ptr<engine> open(gpu::device& device, const weight_lookup& lookup,
                               const engine_options& how) {
    auto out = make(device, lookup, how);
    EXPECT_TRUE(out) << describe(out.error());
    return out ? std::move(*out) : nullptr;
  }
  static void wait_whole(const engine& one) {
    while (one.weights().left_bytes > 0 && !one.weights().why)
      std::this_thread::yield();
  }
  std::vector<token_id> text(engine& from) {
    EXPECT_FALSE(from.add(golden::request(1, model.prompt, 12, 0.9f, 7)));
    return golden::drain(from)[1];
  }
  std::optional<uint64_t> lendable(quantization quantize = quantization::int8,
                                   const std::string& name = "m") {
    return all->bytes_to_copy({name, quantize}, second->home());
  }
};

TEST_F(twins, every_weight_is_copied_bit_for_bit_in_every_layout) {
  for (const auto& name : golden::names()) {
    const auto one = golden::load(name);
    for (const auto& isa : gpu::cpu_isas())
      for (const auto quantize : {quantization::none, quantization::int8, quantization::int4}) {
        SCOPED_TRACE(name + " " + isa + " " + std::to_string(static_cast<int>(quantize)));
        auto how = two_threads();
        how.isa = isa;
        golden::expect_a_true_copy(one, *gpu::make_cpu_device(how), *gpu::make_cpu_device(how),
                                   quantize);
      }
    golden::expect_a_true_copy(one, *gpu::make_reference_device(), *gpu::make_reference_device(),
                               quantization::int8);
  }
}

TEST_F(twins, an_engine_says_the_same_with_weights_that_it_copied) {
  for (const auto quantize : {quantization::int8, quantization::int4}) {
    const auto one = open(*first, model.lookup(), options(quantize));
    const auto expected = text(*one);
    std::atomic<int> news{0};
    const auto other = open(*second, none, options(quantize, [&] { ++news; }));
    EXPECT_EQ(text(*other), expected);
    EXPECT_EQ(other->weights().left_bytes, 0u);
    EXPECT_GE(news, 1);
    EXPECT_EQ(other->memory().weights_bytes, one->memory().weights_bytes);
  }
}

TEST_F(twins, a_copy_is_lent_in_its_turn_and_outlives_the_first) {
  auto one = open(*first, model.lookup(), options(quantization::int8));
  const auto expected = text(*one);
  const auto held = model.checkpoint.use_count();
  auto other = open(*second, none, options(quantization::int8));
  wait_whole(*other);
  one = nullptr;
  EXPECT_EQ(text(*other), expected);
  one = open(*first, none, options(quantization::int8));
  wait_whole(*one);
  other = nullptr;
  EXPECT_EQ(text(*one), expected);
  EXPECT_EQ(model.checkpoint.use_count(), held + 1) << "of the engine, and of what it lends";
}

TEST_F(twins, are_found_by_name_form_and_home_and_once_all_is_there) {
  EXPECT_FALSE(lendable());
  const auto one = open(*first, model.lookup(), options(quantization::int8));
  EXPECT_TRUE(lendable());
  EXPECT_LT(*lendable(), one->memory().weights_bytes) << "norms are used in place";
  EXPECT_FALSE(lendable(quantization::int4));
  EXPECT_FALSE(lendable(quantization::int8, "n"));
  EXPECT_FALSE(all->bytes_to_copy({"m", quantization::int8}, gpu::make_reference_device()->home()));
  const auto way = std::make_shared<gate>();
  way->open(0);
  gated_device slow{way};
  const auto coming = open(slow, none, options(quantization::int8, [] {}));
  way->wait_begun(1);
  ASSERT_TRUE(one->is_lent());
  EXPECT_FALSE(coming->is_lent());
  const auto lend = [&] { return all->lend({"m", quantization::int8}, second->home()); };
  EXPECT_EQ(lend()->home().ordinal, 0) << "the other one is not whole yet";
  way->open(SIZE_MAX);
  wait_whole(*coming);
  const auto loan = lend(), next = lend();
  EXPECT_NE(loan->home().ordinal, next->home().ordinal) << "the one that is lent less";
}

TEST_F(twins, weights_that_all_lie_in_place_are_nobodys_twins) {
  first = gpu::make_cpu_device(two_threads(gpu::precision::float32));
  second = gpu::make_cpu_device(two_threads(gpu::precision::float32));
  const auto one = open(*first, model.lookup(), options(quantization::none));
  EXPECT_FALSE(lendable(quantization::none));
  EXPECT_EQ(make(*second, none, options(quantization::none)).error(), errc::no_twin);
}

TEST_F(twins, layers_run_as_they_come) {
  const auto one = open(*first, model.lookup(), options(quantization::int8));
  const auto expected = text(*one);
  const auto way = std::make_shared<gate>();
  way->open(0);
  gated_device slow{way};
  const auto other = open(slow, none, options(quantization::int8, [] {}));
  ASSERT_FALSE(other->add(golden::request(1, model.prompt, 12, 0.9f, 7)));
  ASSERT_TRUE(other->step());
  ASSERT_TRUE(other->held());
  EXPECT_EQ(other->held()->layers_run, 0u);
  for (size_t through = 1; other->held() && other->held()->layers_run == 0; ++through) {
    way->open(through);
    way->wait_begun(through + 1);
    ASSERT_TRUE(other->step());
  }
  EXPECT_EQ(other->held()->layers_run, 1u);
  way->open(SIZE_MAX);
  EXPECT_EQ(golden::drain(*other)[1], expected);
}

TEST_F(twins, weights_that_are_to_go_are_called_back_and_go_when_they_are) {
  std::atomic<int> returned{0};
  auto one = open(*first, model.lookup(), options(quantization::int8, [&] { ++returned; }));
  ASSERT_EQ(returned, 0);
  const auto way = std::make_shared<gate>();
  way->open(2);
  gated_device slow{way};
  const auto other = open(slow, none, options(quantization::int8, [] {}));
  way->wait_begun(3);
  EXPECT_TRUE(one->is_lent());
  std::atomic<bool> gone{false};
  std::jthread owner{[&] {
    one = nullptr;
    gone = true;
  }};
  while (lendable())
    std::this_thread::yield();
  EXPECT_FALSE(gone) << "a copy is being made";
  way->open(SIZE_MAX);
  owner.join();
  EXPECT_EQ(returned, 1);
  while (!other->weights().why)
    std::this_thread::yield();
  EXPECT_EQ(other->weights().why, errc::no_twin);
  EXPECT_GT(other->weights().left_bytes, 0u);
  // As an engine whose load failed does.
  ASSERT_FALSE(other->add(golden::request(1, model.prompt, 2)));
  auto events = other->step();
  while (events && other->held())
    events = other->step();
  ASSERT_FALSE(events);
  EXPECT_EQ(events.error(), errc::no_twin);
}

TEST_F(twins, an_engine_that_goes_while_it_copies_gives_the_weights_back) {
  std::atomic<int> returned{0};
  const auto one = open(*first, model.lookup(), options(quantization::int8, [&] { ++returned; }));
  const auto expected = text(*one);
  const auto way = std::make_shared<gate>();
  way->open(2);
  gated_device slow{way};
  auto other = open(slow, none, options(quantization::int8, [] {}));
  way->wait_begun(3);
  std::atomic<bool> gone{false};
  std::jthread opener{[&] {
    for (size_t through = 3; !gone; ++through)
      way->open(through);
  }};
  other = nullptr;
  gone = true;
  EXPECT_FALSE(one->is_lent());
  EXPECT_EQ(returned, 1);
  EXPECT_EQ(text(*one), expected);
}

TEST_F(twins, a_copy_that_is_stopped_or_called_back_ends_in_the_middle_of_a_tensor) {
  constexpr int64_t pieces = 3, rows = pieces << 22; // of 4 bytes: 16 MiB are copied at once
  const auto from = first->allocate(rows * 4), to = second->allocate(rows * 4);
  ASSERT_TRUE(from && to);
  for (const bool stopped : {true, false}) {
    auto one = open(*first, model.lookup(), options(quantization::int8));
    auto loan = all->lend({"m", quantization::int8}, second->home());
    ASSERT_TRUE(loan);
    const weight_job job{.from = {},
                         .to = {to->data(), dtype::f32, rows, 1},
                         .memory = to->data(),
                         .tensors = 1,
                         .loan = loan.get(),
                         .twin = from->data()};
    const auto way = std::make_shared<gate>();
    way->open(0);
    gated_device queue{way};
    std::stop_source stop;
    caf::error why;
    std::jthread copying{[&] {
      why = run_job(job, queue, stop.get_token());
      loan = nullptr;
    }};
    way->wait_begun(1);
    std::jthread owner;
    if (stopped) {
      stop.request_stop();
    } else {
      owner = std::jthread{[&] { one = nullptr; }};
      while (lendable())
        std::this_thread::yield();
    }
    way->open(SIZE_MAX);
    copying.join();
    EXPECT_EQ(way->begun, 1u);
    EXPECT_EQ(why == errc::no_twin, !stopped);
  }
}

TEST_F(twins, what_is_not_there_or_not_what_is_asked_for_says_so) {
  EXPECT_EQ(make(*second, none, options(quantization::int8)).error(), errc::no_twin);
  const auto one = open(*first, model.lookup(), options(quantization::int8));
  model.config.intermediate_size += 32;
  EXPECT_EQ(make(*second, none, options(quantization::int8)).error(), errc::no_twin);
  model.config.intermediate_size -= 32;
  ++model.config.layers;
  EXPECT_EQ(make(*second, none, options(quantization::int8)).error(), errc::no_twin);
  EXPECT_FALSE(one->is_lent());
}

TEST_F(twins, memory_that_is_not_there_is_an_error_as_ever) {
  const auto one = open(*first, model.lookup(), options(quantization::int8));
  auto how = two_threads();
  how.memory_bytes = 1000;
  const auto small = gpu::make_cpu_device(how);
  const auto made = make(*small, none, options(quantization::int8));
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error(), errc::out_of_memory);
  EXPECT_NE(describe(made.error()).find("copying tensor model."), std::string::npos)
      << describe(made.error());
  EXPECT_FALSE(one->is_lent());
}

TEST_F(twins, many_devices_that_come_and_go_copy_from_each_other) {
  const auto expected = text(*open(*first, model.lookup(), options(quantization::int8)));
  std::atomic<int> copied{0};
  const auto device_of_its_own = [&](int seed) {
    gpu::device_options how;
    how.threads = 1;
    const auto device = gpu::make_cpu_device(how);
    for (int i = 0; i < 12; ++i) {
      auto made = make(*device, none, options(quantization::int8, [] {}));
      copied += made ? 1 : 0;
      if (!made)
        made = make(*device, model.lookup(), options(quantization::int8));
      ASSERT_TRUE(made) << describe(made.error());
      if ((i + seed) % 3 == 0)
        continue; // at once, in the middle of a copy perhaps
      wait_whole(**made);
      if ((*made)->weights().why) {
        EXPECT_EQ((*made)->weights().why, errc::no_twin);
      } else {
        EXPECT_EQ(text(**made), expected);
      }
    }
  };
  {
    std::vector<std::jthread> devices;
    for (int i = 0; i < 4; ++i)
      devices.emplace_back(device_of_its_own, i);
  }
  EXPECT_FALSE(lendable());
}

} // namespace
} // namespace troupe::engine

#include "actors/node.hpp"

#include <condition_variable>
#include <filesystem>
#include <future>
#include <map>
#include <mutex>
#include <set>

#include <gtest/gtest.h>
#include <prometheus/registry.h>
#include <unistd.h>

#include "actors/errors.hpp"
#include "engine/frontend/frontend.hpp"
#include "tests/actors/failing_device.hpp"

namespace troupe::actors {
namespace {

using namespace std::chrono_literals;

/// Far beyond anything that is expected: a test that waits so long has failed.
constexpr auto patience = 60s;

/// Collects one request's outcome; any thread may wait for it.
struct client final : reply_sink {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<uint32_t, std::string> text;
  std::vector<std::string> phases;
  size_t pieces = 0;
  std::optional<usage> used;
  std::optional<failure> failed;

  void on_accepted(uint32_t) override {}
  void on_progress(const load_progress& x) override {
    update([&] { phases.push_back(x.phase); });
  }
  void on_text(text_piece piece) override {
    update([&] { ++pieces, text[piece.choice] += piece.text; });
  }
  void on_finish(uint32_t, engine::finish_reason) override {}
  void on_done(const usage& x, const request_timing&) override {
    update([&] { used = x; });
  }
  void on_failure(const failure& why) override {
    update([&] { failed = why; });
  }
  template <class F>
  void update(F f) {
    const std::lock_guard guard{mutex};
    f();
    changed.notify_all();
  }
  template <class F>
  bool wait(F until) {
    std::unique_lock guard{mutex};
    return changed.wait_for(guard, patience, until);
  }
  bool wait_end() {
    return wait([this] { return used || failed; });
  }
};

std::filesystem::path models_dir() {
  return std::filesystem::path{TROUPE_SOURCE_DIR} / "examples" / "models";
}

node_options options(node_role role = node_role::all) {
  node_options out;
  out.role = role;
  out.models = storage::find_models({models_dir()}).models;
  out.threads = 1;
  out.engine.kv_bytes = 8u << 20;
  out.node_name = "here";
  out.memory_limit_bytes = 1u << 30;
  return out;
}

invocation_request story(const std::string& prompt, uint32_t tokens, float temperature = 0) {
  invocation_request out;
  out.id.text = "req_node_test";
  out.model = {"stories-llama"};
  out.prompts = {text_prompt{prompt}};
  out.sampling.max_tokens = tokens;
  out.sampling.temperature = temperature;
  out.sampling.seed = 5;
  out.sampling.ignore_eos = true;
  return out;
}

std::unique_ptr<node> start(node_options with) {
  auto out = node::start(std::move(with));
  EXPECT_TRUE(out) << describe(out.error());
  return out ? std::move(*out) : nullptr;
}

template <class T>
caf::expected<T> get(const std::function<void(callback<T>)>& call) {
  auto promise = std::make_shared<std::promise<caf::expected<T>>>();
  auto future = promise->get_future();
  call([promise](caf::expected<T> x) { promise->set_value(std::move(x)); });
  if (future.wait_for(patience) != std::future_status::ready)
    return caf::make_error(errc::timed_out, "no answer");
  return future.get();
}

TEST(node, every_example_model_answers_from_a_cold_start) {
  const auto here = start(options());
  ASSERT_TRUE(here);
  const auto list = get<std::vector<model_status>>([&](auto then) { here->edge().models(then); });
  ASSERT_TRUE(list);
  ASSERT_GE(list->size(), 3u);
  for (const auto& model : *list) {
    auto request = story("Once upon a time", 20);
    request.model = model.id;
    const auto x = std::make_shared<client>();
    here->edge().invoke(std::move(request), x);
    ASSERT_TRUE(x->wait_end());
    ASSERT_TRUE(x->used) << x->failed->message;
    EXPECT_EQ(x->used->completion_tokens, 20u);
    EXPECT_FALSE(x->text[0].empty());
    ASSERT_GE(x->phases.size(), 2u);
    EXPECT_EQ(x->phases.front(), "queued");
    EXPECT_EQ(x->phases.back(), "ready");
    const auto status = get<model_status>([&](auto then) { here->edge().model(model.id, then); });
    ASSERT_TRUE(status);
    EXPECT_EQ(status->state, "ready");
    EXPECT_EQ(status->device, "cpu@here");
    EXPECT_GT(status->resident_bytes, status->weight_bytes / 2);
    EXPECT_GT(status->context_length, 0u);
    EXPECT_GT(status->kv_bytes, 0u) << "what was computed is remembered";
  }
  // What the device has is what its models have.
  const auto after = get<std::vector<model_status>>([&](auto then) { here->edge().models(then); });
  const auto devices =
      get<std::vector<device_status>>([&](auto then) { here->edge().devices(then); });
  ASSERT_TRUE(after && devices);
  ASSERT_EQ(devices->size(), 1u);
  const auto& device = devices->front();
  uint64_t resident = 0, kv = 0, workspace = 0;
  const auto how = options().engine;
  const auto plain = gpu::make_reference_device();
  for (const auto& model : *after) {
    resident += model.resident_bytes;
    kv += model.kv_bytes;
    const auto frontend = get<std::shared_ptr<const engine::frontend>>(
        [&](auto then) { here->edge().frontend(model.id, then); });
    ASSERT_TRUE(frontend);
    const auto foretold = engine::estimate_memory((*frontend)->config, 1, how, plain.get());
    workspace = std::max(workspace, foretold.workspace_bytes);
  }
  EXPECT_EQ(device.device, "cpu@here");
  EXPECT_EQ(device.kv_bytes, kv);
  EXPECT_EQ(device.weights_bytes + device.kv_bytes, resident);
  EXPECT_EQ(device.workspace_bytes, workspace) << "one for all";
  EXPECT_LE(device.kv_bytes, device.kv_memory_bytes);
  EXPECT_LE(device.weights_bytes + device.workspace_bytes, device.limit_bytes);
}

TEST(node, a_worker_that_vanishes_changes_no_text) {
  auto with = options(node_role::head);
  with.cluster_listen = host_port{"127.0.0.1", 0};
  const auto head = start(std::move(with));
  ASSERT_TRUE(head);
  ASSERT_NE(head->cluster_port(), 0);
  const auto worker = [&] {
    auto with = options(node_role::worker);
    with.models.clear();
    with.join = host_port{"127.0.0.1", head->cluster_port()};
    return start(std::move(with));
  };
  const auto run = [&](const std::vector<std::shared_ptr<client>>& all) {
    for (size_t i = 0; i < all.size(); ++i)
      head->edge().invoke(story("Story " + std::to_string(i / 2), 150, i % 2 == 0 ? 0.f : 0.9f),
                          all[i]);
  };
  const auto make = [] {
    std::vector<std::shared_ptr<client>> out(8);
    for (auto& x : out)
      x = std::make_shared<client>();
    return out;
  };
  auto first = worker();
  const auto undisturbed = make(), disturbed = make();
  run(undisturbed);
  for (const auto& x : undisturbed) {
    ASSERT_TRUE(x->wait_end());
    ASSERT_TRUE(x->used) << x->failed->message;
  }
  run(disturbed);
  for (const auto& x : disturbed)
    ASSERT_TRUE(x->wait([&] { return x->pieces >= 5; }));
  first.reset();
  const auto second = worker();
  for (size_t i = 0; i < disturbed.size(); ++i) {
    ASSERT_TRUE(disturbed[i]->wait_end());
    ASSERT_TRUE(disturbed[i]->used) << disturbed[i]->failed->message;
    EXPECT_EQ(disturbed[i]->text, undisturbed[i]->text);
    EXPECT_EQ(disturbed[i]->used->completion_tokens, 150u);
  }
  const auto actors = get<std::vector<actor_info>>([&](auto then) { head->edge().actors(then); });
  ASSERT_TRUE(actors);
  const auto count = [&](const char* type) {
    return std::count_if(actors->begin(), actors->end(),
                         [&](const auto& x) { return x.type == type; });
  };
  EXPECT_EQ(count("scheduler"), 1);
  EXPECT_EQ(count("gpu-worker"), 1) << "of the other process, through the cluster";
}

/// Options of a node whose first device fails at its `fuse`-th synchronization; `next` opens
/// others.
node_options with_failing_device(int fuse,
                                 std::function<caf::expected<std::vector<opened_device>>()> next) {
  auto out = options();
  out.devices = {"cpu"};
  out.open = [fuse, next = std::move(next), first = true](const std::vector<std::string>& names,
                                                          const gpu::device_options& how) mutable {
    auto made = open_devices(names, how);
    if (!std::exchange(first, false))
      return next ? next() : std::move(made);
    auto& device = made->front().device;
    device = std::make_unique<testing::failing_device>(std::move(device), fuse);
    return made;
  };
  return out;
}

TEST(node, devices_are_opened_as_the_options_say) {
  for (const auto wide : {gpu::products::invariant, gpu::products::fastest}) {
    auto with = options();
    gpu::device_options seen;
    with.float32 = wide == gpu::products::fastest;
    with.products = wide;
    with.open = [&seen](const std::vector<std::string>& names, const gpu::device_options& how) {
      seen = how;
      return open_devices(names, how);
    };
    const auto one = start(std::move(with));
    EXPECT_EQ(seen.wide, wide);
    EXPECT_EQ(seen.mode == gpu::precision::float32, wide == gpu::products::fastest);
    EXPECT_TRUE(seen.warn) << "what a device does without is logged";
  }
}

TEST(node, a_device_that_fails_is_opened_anew_and_changes_no_text) {
  const auto text = [](node_options with) {
    const auto one = start(std::move(with));
    const auto all = std::make_shared<client>();
    one->edge().invoke(story("Once", 60), all);
    EXPECT_TRUE(all->wait_end());
    EXPECT_TRUE(all->used) << all->failed->message;
    return all->text;
  };
  const auto undisturbed = text(options());
  EXPECT_EQ(undisturbed.at(0).empty(), false);
  for (const int fuse : {1, 2, 20}) // while loading, in the first step, in the middle
    EXPECT_EQ(text(with_failing_device(fuse, nullptr)), undisturbed) << fuse;
}

TEST(node_death_test, a_device_that_does_not_start_again_ends_the_process_with_a_reason) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto run = [] {
    dup2(STDERR_FILENO, STDOUT_FILENO); // where the log goes
    const auto one = start(with_failing_device(
        20, [] { return caf::make_error(gpu::errc::unavailable, "its driver is gone"); }));
    const auto all = std::make_shared<client>();
    one->edge().invoke(story("Once", 60), all);
    all->wait_end();
    all->wait([] { return false; }); // the process ends first
  };
  EXPECT_EXIT(run(), ::testing::ExitedWithCode(70), "its driver is gone");
}

TEST(node, load_pin_unload_and_frontend_by_id_or_alias) {
  auto with = options();
  with.settings[{"stories-llama"}].aliases = {"story"};
  const auto here = start(std::move(with));
  ASSERT_TRUE(here);
  auto& edge = here->edge();
  const auto loaded = get<model_status>([&](auto then) { edge.load({"story"}, true, then); });
  ASSERT_TRUE(loaded) << describe(loaded.error());
  EXPECT_EQ(loaded->id.text, "stories-llama");
  EXPECT_TRUE(loaded->pinned);
  const auto frontend = get<std::shared_ptr<const engine::frontend>>(
      [&](auto then) { edge.frontend({"story"}, then); });
  ASSERT_TRUE(frontend);
  EXPECT_TRUE(*frontend);
  const auto unloaded = get<model_status>([&](auto then) { edge.unload({"story"}, then); });
  ASSERT_TRUE(unloaded);
  EXPECT_EQ(unloaded->state, "cold");
  const auto unknown = get<model_status>([&](auto then) { edge.load({"nobody"}, {}, then); });
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error(), errc::model_not_found);
}

/// A node of two devices whose models are laid out for them.
node_options with_two_devices() {
  auto out = options();
  out.devices = {"cpu:0", "cpu:1"};
  out.open = [](const std::vector<std::string>& names, const gpu::device_options& how) {
    std::vector<opened_device> made;
    for (const auto& name : names)
      made.push_back({name, gpu::make_cpu_device(how)});
    return caf::expected<std::vector<opened_device>>{std::move(made)};
  };
  out.engine.quantize = engine::quantization::int8;
  out.kv_memory_bytes = 16u << 20;
  return out;
}

/// Asks again and again.
void wait_until(const std::function<bool()>& so) {
  for (const auto end = std::chrono::steady_clock::now() + patience; !so();)
    ASSERT_LT(std::chrono::steady_clock::now(), end);
}

double loaded_from(node& here, const std::string& source) {
  for (const auto& family : here.edge().metrics().Collect())
    if (family.name == "troupe_load_source_bytes_total")
      for (const auto& one : family.metric)
        if (one.label.at(0).value == source)
          return one.counter.value;
  return 0;
}

TEST(node, a_copy_of_a_model_comes_from_the_device_that_has_one) {
  const model_id model{"stories-llama"}, other{"parrot-mistral"};
  const auto load = [](node& on, const model_id& id, bool pin) {
    return get<model_status>([&](auto then) { on.edge().load(id, pin, then); });
  };
  const auto devices = [](node& of) {
    return *get<std::vector<device_status>>([&](auto then) { of.edge().devices(then); });
  };
  uint64_t weights = 0, workspace = 0;
  std::string text;
  {
    auto with = with_two_devices();
    with.devices.pop_back();
    const auto alone = start(std::move(with));
    ASSERT_TRUE(load(*alone, model, false));
    weights = devices(*alone)[0].weights_bytes;
    ASSERT_TRUE(load(*alone, other, false));
    workspace = devices(*alone)[0].workspace_bytes;
    const auto x = std::make_shared<client>();
    alone->edge().invoke(story("Once", 40), x);
    ASSERT_TRUE(x->wait_end() && x->used);
    text = x->text[0];
    EXPECT_EQ(loaded_from(*alone, "device"), 0);
  }
  auto with = with_two_devices();
  with.settings[model].replicas = 2;
  with.memory_limit_bytes = with.kv_memory_bytes + workspace + weights + (100 << 10);
  const auto here = start(std::move(with));
  ASSERT_TRUE(here);
  // It has a device for itself, until the other one's model goes.
  ASSERT_TRUE(load(*here, other, true));
  ASSERT_TRUE(load(*here, model, true));
  const auto read = [&] { return loaded_from(*here, "paged") + loaded_from(*here, "cached"); };
  double both = 0;
  for (const auto& id : {model, other})
    both += static_cast<double>(
        get<model_status>([&](auto then) { here->edge().model(id, then); })->weight_bytes);
  wait_until([&] { return read() >= both; });
  const auto before = read();
  EXPECT_EQ(loaded_from(*here, "device"), 0);
  ASSERT_TRUE(get<model_status>([&](auto then) { here->edge().unload(other, then); }));
  const auto has_both = [&] {
    const auto all = devices(*here);
    return all[0].weights_bytes == weights && all[1].weights_bytes == weights &&
           loaded_from(*here, "device") > 0;
  };
  wait_until(has_both);
  EXPECT_LT(loaded_from(*here, "device"), static_cast<double>(weights)) << "some lie in place";
  EXPECT_EQ(read(), before);
  std::vector<std::shared_ptr<client>> all(8);
  std::set<std::string> workers;
  for (size_t i = 0; i < all.size(); ++i) {
    auto request = story("Once", 40);
    request.id.text = "twin_" + std::to_string(i);
    all[i] = std::make_shared<client>();
    here->edge().invoke(std::move(request), all[i]);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_TRUE(all[i]->wait_end() && all[i]->used);
    EXPECT_EQ(all[i]->text[0], text);
    workers.insert(here->edge().request("twin_" + std::to_string(i))->worker);
  }
  EXPECT_EQ(workers, (std::set<std::string>{"cpu:0@here", "cpu:1@here"}));
}

TEST(node, cancels_drains_and_then_refuses) {
  const auto here = start(options());
  ASSERT_TRUE(here);
  const auto cancelled = std::make_shared<client>(), running = std::make_shared<client>();
  auto endless = story("Once", 1);
  endless.sampling.max_tokens.reset();
  const auto handle = here->edge().invoke(std::move(endless), cancelled);
  here->edge().invoke(story("Twice", 60), running);
  ASSERT_TRUE(cancelled->wait([&] { return cancelled->pieces > 0; }));
  handle->cancel();
  std::promise<void> drained;
  here->drain(patience, [&] { drained.set_value(); });
  EXPECT_FALSE(here->edge().ready());
  const auto late = std::make_shared<client>();
  here->edge().invoke(story("Late", 5), late);
  ASSERT_TRUE(late->wait_end());
  EXPECT_EQ(late->failed->kind, failure_kind::shutting_down);
  ASSERT_EQ(drained.get_future().wait_for(patience), std::future_status::ready);
  EXPECT_TRUE(running->used) << "what ran was finished";
  EXPECT_FALSE(cancelled->used || cancelled->failed);
}

TEST(node, stops_at_once_in_the_middle_of_everything) {
  auto here = start(options());
  ASSERT_TRUE(here);
  const auto x = std::make_shared<client>();
  auto endless = story("Once", 1);
  endless.sampling.max_tokens.reset();
  here->edge().invoke(std::move(endless), x);
  ASSERT_TRUE(x->wait([&] { return x->pieces > 0; }));
  here.reset();
  EXPECT_TRUE(x->used || x->failed) << "the client hears of it";
}

TEST(node, says_what_is_wrong_with_its_options) {
  auto worker = options(node_role::worker);
  const auto no_head = node::start(worker);
  ASSERT_FALSE(no_head);
  EXPECT_NE(describe(no_head.error()).find("--join"), std::string::npos);
  worker.join = host_port{"127.0.0.1", 0};
  const auto no_port = node::start(worker);
  ASSERT_FALSE(no_port);
  EXPECT_NE(describe(no_port.error()).find("port 0"), std::string::npos);
  auto head = options(node_role::head);
  head.cluster_listen = host_port{"127.0.0.1", 0};
  const auto first = start(head);
  ASSERT_TRUE(first);
  head.cluster_listen = host_port{"256.1.1.1", 7};
  const auto bad = node::start(head);
  ASSERT_FALSE(bad);
  EXPECT_NE(describe(bad.error()).find("256.1.1.1:7"), std::string::npos);
}

} // namespace
} // namespace troupe::actors

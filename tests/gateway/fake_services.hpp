#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <prometheus/registry.h>

#include "actors/errors.hpp"
#include "actors/services.hpp"

namespace troupe::gateway::test {

using namespace std::chrono_literals;

/// Longer than anything here takes; reached only when a test fails.
constexpr auto patience = 20s;

/// A request that reached the node.
struct invocation : actors::invocation_handle {
  actors::invocation_request request;
  std::shared_ptr<actors::reply_sink> sink;

  void cancel() override {
    std::lock_guard guard{lock};
    cancelled = true;
    changed.notify_all();
  }
  bool wait_cancelled() {
    std::unique_lock guard{lock};
    return changed.wait_for(guard, patience, [this] { return cancelled; });
  }
  bool is_cancelled() {
    std::lock_guard guard{lock};
    return cancelled;
  }

  std::mutex lock;
  std::condition_variable changed;
  bool cancelled = false;
};

/// A node made by hand: one thread plays the actors, and a script says what a request gets.
class fake_services : public actors::services {
public:
  using script = std::function<void(invocation&)>;

  fake_services() : worker_{[this] { work(); }} {}
  ~fake_services() override {
    {
      std::lock_guard guard{lock_};
      stopping_ = true;
    }
    changed_.notify_all();
    worker_.join();
  }

  /// What happens to requests from now on; the default is answer_hello.
  void set_script(script next) {
    std::lock_guard guard{lock_};
    script_ = std::move(next);
  }

  /// The `index`th request that came in.
  std::shared_ptr<invocation> wait_invocation(size_t index) {
    std::unique_lock guard{lock_};
    changed_.wait_for(guard, patience, [&] { return invocations_.size() > index; });
    return index < invocations_.size() ? invocations_[index] : nullptr;
  }
  size_t invocation_count() {
    std::lock_guard guard{lock_};
    return invocations_.size();
  }
  /// Keeps requests, and with them the test's memory of them, few.
  void forget_invocations() {
    std::lock_guard guard{lock_};
    invocations_.clear();
  }
  /// Runs `task` on the thread that plays the actors.
  void post(std::function<void()> task) {
    {
      std::lock_guard guard{lock_};
      tasks_.push_back(std::move(task));
    }
    changed_.notify_all();
  }

  static void answer_hello(invocation& one) {
    const auto choices = static_cast<uint32_t>(one.request.prompts.size()) * one.request.n;
    one.sink->on_accepted(7);
    for (const auto* text : {"Hello", ", \"wörld\"", "\n"})
      for (uint32_t i = 0; i < choices; ++i)
        one.sink->on_text({i, text, {}});
    for (uint32_t i = 0; i < choices; ++i)
      one.sink->on_finish(i, engine::finish_reason::stop);
    one.sink->on_done({7, 3 * choices, 2}, {});
  }

  std::shared_ptr<actors::invocation_handle>
  invoke(actors::invocation_request request, std::shared_ptr<actors::reply_sink> sink) override {
    auto one = std::make_shared<invocation>();
    one->request = std::move(request);
    one->sink = std::move(sink);
    post([this, one] {
      script act;
      {
        std::lock_guard guard{lock_};
        act = script_;
        invocations_.push_back(one);
      }
      changed_.notify_all();
      act(*one);
    });
    return one;
  }
  void models(actors::callback<std::vector<actors::model_status>> then) override {
    post([this, then = std::move(then)] { then(listed); });
  }
  void model(const model_id& id, actors::callback<actors::model_status> then) override {
    post([this, id, then = std::move(then)] { then(find(id)); });
  }
  void frontend(const model_id& id,
                actors::callback<std::shared_ptr<const engine::frontend>> then) override {
    post([this, id, then = std::move(then)] {
      if (auto found = find(id); !found)
        then(found.error());
      else if (!text)
        then(caf::make_error(actors::errc::files_broken, "tokenizer.json is cut short"));
      else
        then(text);
    });
  }
  void load(const model_id& id, std::optional<bool> pin,
            actors::callback<actors::model_status> then) override {
    post([this, id, pin, then = std::move(then)] {
      auto found = find(id);
      if (found) {
        found->state = "ready";
        found->pinned = pin.value_or(false);
      }
      then(std::move(found));
    });
  }
  void unload(const model_id& id, actors::callback<actors::model_status> then) override {
    post([this, id, then = std::move(then)] { then(find(id)); });
  }
  void actors(actors::callback<std::vector<actors::actor_info>> then) override {
    post([then = std::move(then)] {
      actors::actor_info one;
      one.id = 3;
      one.name = "model:tiny";
      one.type = "model";
      one.detail = "bad \xff byte";
      then(std::vector<actors::actor_info>{one});
    });
  }
  std::optional<actors::request_record> request(const std::string& id) const override {
    for (const auto& one : records)
      if (one.id.text == id || one.answer_id == id)
        return one;
    return std::nullopt;
  }
  std::vector<actors::request_record> requests(size_t) const override { return records; }
  bool ready() const override { return is_ready; }
  prometheus::Registry& metrics() override { return *registry_; }

  std::vector<actors::model_status> listed{make_model("tiny"), make_model("org/big model")};
  std::shared_ptr<const engine::frontend> text;
  std::atomic<bool> is_ready{true};
  std::vector<actors::request_record> records;

private:
  static actors::model_status make_model(const char* name) {
    actors::model_status out;
    out.id.text = name;
    out.state = "cold";
    out.architecture = "LlamaForCausalLM";
    out.created = std::chrono::system_clock::time_point{1700000000s};
    return out;
  }

  caf::expected<actors::model_status> find(const model_id& id) {
    for (const auto& one : listed)
      if (one.id == id)
        return one;
    return caf::make_error(actors::errc::model_not_found,
                           "The model '" + id.text + "' does not exist.");
  }

  void work() {
    std::unique_lock guard{lock_};
    while (true) {
      changed_.wait(guard, [this] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty())
        return;
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      guard.unlock();
      task();
      guard.lock();
    }
  }

  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  std::mutex lock_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  script script_ = answer_hello;
  std::vector<std::shared_ptr<invocation>> invocations_;
  bool stopping_ = false;
  std::thread worker_;
};

} // namespace troupe::gateway::test

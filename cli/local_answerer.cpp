#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>

#include "cli/answer.hpp"
#include "cli/exit_codes.hpp"

namespace troupe::cli {
namespace {

using clock = std::chrono::steady_clock;

/// Carries one request's outcome from actor threads, which must not block, to a thread that waits
/// and prints.
class waiting_sink final : public actors::reply_sink {
public:
  void on_accepted(uint32_t prompt_tokens) override {
    const std::lock_guard guard{lock_};
    report_.prompt_tokens = prompt_tokens;
  }
  void on_progress(const actors::load_progress& progress) override {
    const std::lock_guard guard{lock_};
    load_ = progress;
    changed_.notify_one();
  }
  void on_text(actors::text_piece piece) override {
    const std::lock_guard guard{lock_};
    if (ended_)
      return;
    if (report_.first_token_seconds == 0)
      report_.first_token_seconds = seconds();
    texts_.push_back(std::move(piece.text));
    changed_.notify_one();
  }
  void on_finish(uint32_t, engine::finish_reason) override {}
  void on_done(const actors::usage& used, const actors::request_timing& timing) override {
    const std::lock_guard guard{lock_};
    report_.prompt_tokens = used.prompt_tokens;
    report_.tokens = used.completion_tokens;
    cold_ = timing.cold;
    end(ok);
  }
  void on_failure(const actors::failure& why) override {
    const std::lock_guard guard{lock_};
    report_.failure = why.message;
    end(why.kind == actors::failure_kind::model_not_found ? not_found : failed);
  }

  /// After it nothing that still arrives counts.
  void interrupt() {
    const std::lock_guard guard{lock_};
    end(interrupted);
  }

  answer_report wait(const answer_events& events) {
    std::unique_lock guard{lock_};
    while (true) {
      changed_.wait(guard, [this] { return ended_ || load_ || !texts_.empty(); });
      const auto load = std::exchange(load_, std::nullopt);
      const auto texts = std::exchange(texts_, {});
      const bool last = ended_;
      guard.unlock();
      if (load && texts.empty() && !last)
        events.on_load(load->phase, load->done_bytes, load->total_bytes);
      for (const auto& text : texts) {
        events.on_text(text);
        report_.text += text; // read by nobody before the end
      }
      if (last)
        return report_;
      guard.lock();
    }
  }
  bool cold() const { return cold_; }

private:
  double seconds() const { return std::chrono::duration<double>(clock::now() - begun_).count(); }
  void end(int code) {
    if (ended_)
      return;
    report_.code = code;
    report_.total_seconds = seconds();
    ended_ = true;
    changed_.notify_one();
  }

  const clock::time_point begun_ = clock::now();
  std::mutex lock_;
  std::condition_variable changed_;
  answer_report report_;
  std::deque<std::string> texts_;
  std::optional<actors::load_progress> load_;
  bool ended_ = false;
  bool cold_ = false;
};

class local_answerer final : public answerer {
public:
  local_answerer(actors::services& services, model_id model, const run_options& options)
      : services_{services}, model_{std::move(model)}, options_{options} {}

  answer_report answer(const nlohmann::ordered_json& messages,
                       const answer_events& events) override {
    const auto sink = std::make_shared<waiting_sink>();
    {
      const std::lock_guard guard{lock_};
      sink_ = sink;
      handle_ = services_.invoke(request(messages), sink);
    }
    auto report = sink->wait(events);
    {
      const std::lock_guard guard{lock_};
      sink_.reset();
      handle_.reset();
    }
    if (sink->cold() && options_.verbose)
      report.load_seconds = load_seconds();
    return report;
  }

  void cancel() override {
    const std::lock_guard guard{lock_};
    if (handle_)
      handle_->cancel();
    if (sink_)
      sink_->interrupt();
  }

private:
  actors::invocation_request request(const nlohmann::ordered_json& messages) {
    actors::invocation_request out;
    out.id = {"run-" + std::to_string(++count_)};
    out.model = model_;
    if (options_.raw)
      out.prompts.emplace_back(actors::text_prompt{messages.back()["content"].get<std::string>()});
    else
      out.prompts.emplace_back(actors::chat_prompt{messages, {{"add_generation_prompt", true}}});
    out.sampling.temperature = options_.temperature;
    out.sampling.seed = options_.seed;
    out.sampling.max_tokens = options_.max_tokens;
    out.sampling.stop = options_.stop;
    out.timeout = std::chrono::hours{24}; // whoever sits before it decides
    return out;
  }

  std::optional<double> load_seconds() {
    const auto answered = std::make_shared<std::promise<std::optional<double>>>();
    services_.model(model_, [answered](caf::expected<actors::model_status> status) {
      answered->set_value(status ? std::optional{status->load_seconds} : std::nullopt);
    });
    return answered->get_future().get();
  }

  actors::services& services_;
  const model_id model_;
  const run_options& options_;
  uint64_t count_ = 0;
  std::mutex lock_; ///< guards what `cancel` touches
  std::shared_ptr<waiting_sink> sink_;
  std::shared_ptr<actors::invocation_handle> handle_;
};

} // namespace

std::unique_ptr<answerer> make_local_answerer(actors::services& services, model_id model,
                                              const run_options& options) {
  return std::make_unique<local_answerer>(services, std::move(model), options);
}

} // namespace troupe::cli

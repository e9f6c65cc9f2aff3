#include <condition_variable>
#include <iostream>
#include <mutex>

#include "cli/answer.hpp"
#include "cli/exit_codes.hpp"

namespace troupe::cli {

namespace {

using clock = std::chrono::steady_clock;

/// Collects one request's outcome for a thread that waits.
class waiting_sink final : public actors::reply_sink {
public:
  explicit waiting_sink(std::function<void(std::string_view)> on_text)
      : on_text_{std::move(on_text)} {}

  void on_accepted(uint32_t) override {}
  void on_progress(const actors::load_progress& progress) override {
    show_load(progress.phase, progress.done_bytes, progress.total_bytes);
  }
  void on_text(actors::text_piece piece) override {
    if (report_.first_token_seconds == 0)
      report_.first_token_seconds = seconds();
    clear_load();
    on_text_(piece.text);
    report_.text += piece.text;
  }
  void on_finish(uint32_t, engine::finish_reason) override {}
  void on_done(const actors::usage& used, const actors::request_timing&) override {
    report_.tokens = used.completion_tokens;
    end(ok);
  }
  void on_failure(const actors::failure& why) override {
    clear_load();
    std::cerr << "troupe: " << why.message << "\n";
    end(why.kind == actors::failure_kind::model_not_found ? not_found : failed);
  }

  answer_report wait() {
    std::unique_lock guard{lock_};
    ended_.wait(guard, [this] { return done_; });
    return report_;
  }

private:
  double seconds() const {
    return std::chrono::duration<double>(clock::now() - begun_).count();
  }
  void end(int code) {
    const std::lock_guard guard{lock_};
    report_.code = code;
    report_.total_seconds = seconds();
    done_ = true;
    ended_.notify_all();
  }

  std::function<void(std::string_view)> on_text_;
  clock::time_point begun_ = clock::now();
  answer_report report_;
  std::mutex lock_;
  std::condition_variable ended_;
  bool done_ = false;
};

class local_answerer final : public answerer {
public:
  local_answerer(actors::services& services, model_id model, const run_options& options)
      : services_{services}, model_{std::move(model)}, options_{options} {}

  answer_report answer(const nlohmann::ordered_json& messages,
                       const std::function<void(std::string_view)>& on_text) override {
    actors::invocation_request request;
    request.id = {"run-" + std::to_string(++count_)};
    request.model = model_;
    if (options_.raw)
      request.prompts.emplace_back(actors::text_prompt{messages.back()["content"].get<std::string>()});
    else
      request.prompts.emplace_back(actors::chat_prompt{messages, {{"add_generation_prompt", true}}});
    request.sampling.temperature = options_.temperature;
    request.sampling.seed = options_.seed;
    request.sampling.max_tokens = options_.max_tokens;
    request.sampling.stop = options_.stop;
    auto sink = std::make_shared<waiting_sink>(on_text);
    const auto handle = services_.invoke(std::move(request), sink);
    return sink->wait();
  }

private:
  actors::services& services_;
  model_id model_;
  const run_options& options_;
  uint64_t count_ = 0;
};

} // namespace

std::unique_ptr<answerer> make_local_answerer(actors::services& services, model_id model,
                                              const run_options& options) {
  return std::make_unique<local_answerer>(services, std::move(model), options);
}

} // namespace troupe::cli

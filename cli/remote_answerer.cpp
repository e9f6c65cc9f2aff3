#include <chrono>
#include <mutex>

#include "cli/answer.hpp"
#include "cli/exit_codes.hpp"
#include "cli/http_client.hpp"

namespace troupe::cli {
namespace {

using json = nlohmann::ordered_json;
using clock = std::chrono::steady_clock;

std::string text_of(const json& chunk) {
  const auto choices = chunk.find("choices");
  if (choices == chunk.end() || !choices->is_array() || choices->empty())
    return {};
  const auto& choice = (*choices)[0];
  const bool chat = choice.contains("delta");
  const auto& from = chat ? choice["delta"] : choice;
  const char* key = chat ? "content" : "text";
  return from.contains(key) && from[key].is_string() ? from[key].get<std::string>() : std::string{};
}

/// Reads the payloads of one answer.
class stream_view {
public:
  explicit stream_view(const answer_events& events) : events_{events} {}

  void data(std::string_view payload) {
    const auto chunk = json::parse(payload, nullptr, false);
    if (payload == "[DONE]")
      finished_ = true;
    if (!chunk.is_object())
      return;
    if (const auto error = chunk.find("error"); error != chunk.end() && error->is_object()) {
      report.failure = error->value("message", "the server failed");
      return;
    }
    if (const auto used = chunk.find("usage"); used != chunk.end() && used->is_object()) {
      report.tokens = used->value("completion_tokens", 0u);
      report.prompt_tokens = used->value("prompt_tokens", 0u);
    }
    const auto text = text_of(chunk);
    if (text.empty())
      return;
    if (report.first_token_seconds == 0)
      report.first_token_seconds = seconds();
    report.text += text;
    events_.on_text(text);
  }

  /// "loading NAME 42% ..." while the model is cold; anything else is only there to keep the
  /// connection alive.
  void comment(std::string_view text) {
    if (!text.starts_with("loading ") && !text.starts_with("queued ") &&
        !text.starts_with("ready "))
      return;
    cold = true;
    uint64_t share = 0;
    const auto percent = text.rfind('%');
    const auto number = percent == std::string_view::npos ? percent : text.rfind(' ', percent);
    if (number != std::string_view::npos)
      share = std::strtoull(std::string{text.substr(number + 1)}.c_str(), nullptr, 10);
    events_.on_load(std::string{text.substr(0, text.find(' '))} + " " + std::to_string(share) + "%",
                    0, 0);
  }

  double seconds() const { return std::chrono::duration<double>(clock::now() - begun_).count(); }
  bool finished() const { return finished_; }
  answer_report report;
  bool cold = false;

private:
  const answer_events& events_;
  const clock::time_point begun_ = clock::now();
  bool finished_ = false;
};

class remote_answerer final : public answerer {
public:
  explicit remote_answerer(const run_options& options)
      : options_{options}, url_{normal_url(options.url)} {}

  answer_report answer(const json& messages, const answer_events& events) override {
    const auto stream = std::make_shared<http_stream>();
    {
      const std::lock_guard guard{lock_};
      stream_ = stream;
    }
    stream_view view{events};
    const auto got = stream->run(
        url_ + (options_.raw ? "/v1/completions" : "/v1/chat/completions"), body(messages).dump(),
        [&view](std::string_view payload) { view.data(payload); },
        [&view](std::string_view text) { view.comment(text); });
    {
      const std::lock_guard guard{lock_};
      stream_.reset();
    }
    auto report = std::move(view.report);
    report.total_seconds = view.seconds();
    judge(report, got, stream->cancelled(), view.finished());
    if (report.code == ok && view.cold && options_.verbose)
      report.load_seconds = load_seconds();
    return report;
  }

  void cancel() override {
    const std::lock_guard guard{lock_};
    if (stream_)
      stream_->cancel();
  }

private:
  void judge(answer_report& report, const http_answer& got, bool cancelled, bool finished) const {
    if (cancelled) {
      report.code = interrupted;
    } else if (got.status == 0 && report.text.empty()) {
      report.failure = no_server_text(url_, got);
      report.code = cannot_connect;
    } else if (got.status == 0) {
      report.failure = "the connection to " + url_ + " broke: " + got.body;
      report.code = failed;
    } else if (got.status != 200) {
      report.failure = error_message(got);
      report.code = got.status == 404 ? not_found : failed;
    } else if (!report.failure.empty()) {
      report.code = failed;
    } else if (!finished) {
      report.failure = "the answer ended before it was whole";
      report.code = failed;
    }
  }

  json body(const json& messages) const {
    json out{{"model", options_.model}, {"stream", true}};
    out["stream_options"] = {{"include_usage", true}};
    if (options_.raw)
      out["prompt"] = messages.back()["content"];
    else
      out["messages"] = messages;
    if (options_.temperature)
      out["temperature"] = *options_.temperature;
    if (options_.seed)
      out["seed"] = *options_.seed;
    if (options_.max_tokens)
      out["max_tokens"] = *options_.max_tokens;
    if (!options_.stop.empty())
      out["stop"] = options_.stop;
    return out;
  }

  std::optional<double> load_seconds() const {
    const auto models =
        json::parse(admin_request("GET", url_ + "/admin/models").body, nullptr, false);
    if (models.is_object() && models.contains("data"))
      for (const auto& model : models["data"])
        if (model.value("id", "") == options_.model)
          return model.value("load_seconds", 0.0);
    return std::nullopt;
  }

  const run_options& options_;
  const std::string url_;
  std::mutex lock_; ///< guards what `cancel` touches
  std::shared_ptr<http_stream> stream_;
};

} // namespace

std::unique_ptr<answerer> make_remote_answerer(const run_options& options) {
  return std::make_unique<remote_answerer>(options);
}

} // namespace troupe::cli

#include <iostream>

#include "cli/answer.hpp"
#include "cli/exit_codes.hpp"
#include "cli/http_client.hpp"

namespace troupe::cli {

namespace {

using json = nlohmann::ordered_json;
using clock = std::chrono::steady_clock;

class remote_answerer final : public answerer {
public:
  explicit remote_answerer(const run_options& options) : options_{options} {}

  answer_report answer(const json& messages,
                       const std::function<void(std::string_view)>& on_text) override {
    answer_report report;
    bool broken = false;
    const auto begun = clock::now();
    const auto seconds = [&] { return std::chrono::duration<double>(clock::now() - begun).count(); };
    const auto on_data = [&](std::string_view data) {
      const auto chunk = json::parse(data, nullptr, false);
      if (!chunk.is_object())
        return; // [DONE]
      if (chunk.contains("error")) {
        std::cerr << "troupe: " << chunk["error"].value("message", "the server failed") << "\n";
        broken = true;
        return;
      }
      if (chunk.contains("usage") && chunk["usage"].is_object())
        report.tokens = chunk["usage"].value("completion_tokens", 0u);
      const auto text = text_of(chunk);
      if (text.empty())
        return;
      if (report.first_token_seconds == 0)
        report.first_token_seconds = seconds();
      clear_load();
      on_text(text);
      report.text += text;
    };
    const auto got = http_stream(options_.url + (options_.raw ? "/v1/completions" : "/v1/chat/completions"),
                                 body(messages).dump(), on_data, [](std::string_view) {});
    report.total_seconds = seconds();
    if (got.status == 200) {
      report.code = broken ? failed : ok;
    } else {
      std::cerr << "troupe: " << (got.status == 0 ? "no server answers at " + options_.url + " (" + got.body + ")" : error_message(got)) << "\n";
      report.code = got.status == 0 ? cannot_connect : got.status == 404 ? not_found : failed;
    }
    return report;
  }

private:
  static std::string text_of(const json& chunk) {
    if (!chunk.contains("choices") || chunk["choices"].empty())
      return {};
    const auto& choice = chunk["choices"][0];
    const auto& from = choice.contains("delta") ? choice["delta"] : choice;
    const char* key = choice.contains("delta") ? "content" : "text";
    return from.contains(key) && from[key].is_string() ? from[key].get<std::string>() : std::string{};
  }

  json body(const json& messages) const {
    json out{{"model", options_.model}, {"stream", true}, {"stream_options", {{"include_usage", true}}}};
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

  const run_options& options_;
};

} // namespace

std::unique_ptr<answerer> make_remote_answerer(const run_options& options) {
  return std::make_unique<remote_answerer>(options);
}

} // namespace troupe::cli

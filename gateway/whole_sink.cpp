#include "gateway/api_error.hpp"
#include "gateway/json_text.hpp"
#include "gateway/sinks.hpp"

namespace troupe::gateway {

namespace {

struct choice_text {
  std::string text;
  std::string chat_logprobs;
  completion_logprobs lists;
  text_offsets offsets;
  engine::finish_reason finish = engine::finish_reason::none;
};

class whole_sink final : public actors::reply_sink {
public:
  whole_sink(std::shared_ptr<reply_channel> channel, answer_shape shape)
      : channel_{std::move(channel)}, shape_{std::move(shape)}, choices_(shape_.choices) {}

  void on_accepted(uint32_t) override {}
  void on_progress(const actors::load_progress&) override {}

  void on_text(actors::text_piece piece) override {
    auto& choice = choices_.at(piece.choice);
    choice.text += piece.text;
    if (!shape_.logprobs || piece.logprobs.empty())
      return shape_.logprobs ? void(choice.offsets.next(piece)) : void();
    if (shape_.identity.chat) {
      if (!choice.chat_logprobs.empty())
        choice.chat_logprobs += ',';
      append_chat_logprobs(choice.chat_logprobs, piece.logprobs);
    } else {
      choice.lists.add(piece, choice.offsets);
    }
  }

  void on_finish(uint32_t choice, engine::finish_reason reason) override {
    choices_.at(choice).finish = reason;
  }

  void on_done(const actors::usage& used, const actors::request_timing&) override {
    const auto& who = shape_.identity;
    http_response out;
    // What was paid for is worth having; whoever reads the headers learns why there is no more.
    if (shape_.ending && *shape_.ending)
      out.headers.emplace_back("x-troupe-cut-short", (*shape_.ending)->code);
    auto& body = out.body;
    body = R"({"id":")" + who.id + R"(","object":")" +
           (who.chat ? "chat.completion" : "text_completion") + R"(","created":)" +
           std::to_string(who.created) + R"(,"model":)";
    append_json_string(body, who.model);
    body += R"(,"choices":[)";
    for (uint32_t i = 0; i < choices_.size(); ++i) {
      if (i > 0)
        body += ',';
      append_choice(body, i);
    }
    body += R"(],"usage":)";
    append_usage(body, used);
    body += '}';
    channel_->send(std::move(out));
  }

  void on_failure(const actors::failure& why) override {
    channel_->send(error_response(to_api_error(why)));
  }

private:
  void append_choice(std::string& body, uint32_t index) const {
    const auto& choice = choices_[index];
    body += R"({"index":)" + std::to_string(index);
    if (shape_.identity.chat) {
      body += R"(,"message":{"role":"assistant","content":)";
      append_json_string(body, choice.text);
      body += R"(,"refusal":null},"logprobs":)";
      body += shape_.logprobs ? R"({"content":[)" + choice.chat_logprobs + R"(],"refusal":null})"
                              : "null";
    } else {
      body += R"(,"text":)";
      append_json_string(body, choice.text);
      body += R"(,"logprobs":)";
      if (shape_.logprobs)
        choice.lists.append_to(body);
      else
        body += "null";
    }
    body += R"(,"finish_reason":)";
    body += finish_text(choice.finish);
    body += '}';
  }

  std::shared_ptr<reply_channel> channel_;
  answer_shape shape_;
  std::vector<choice_text> choices_;
};

} // namespace

std::shared_ptr<actors::reply_sink> make_whole_sink(std::shared_ptr<reply_channel> channel,
                                                    answer_shape shape) {
  return std::make_shared<whole_sink>(std::move(channel), std::move(shape));
}

} // namespace troupe::gateway

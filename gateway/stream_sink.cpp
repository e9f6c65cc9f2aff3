#include <mutex>

#include "gateway/api_error.hpp"
#include "gateway/json_text.hpp"
#include "gateway/sinks.hpp"

namespace troupe::gateway {

namespace {

/// The constant texts around what changes from chunk to chunk:
/// `head` index `middle` content `tail`.
struct chunk_frame {
  std::string head;   ///< up to and including `"index":`
  std::string middle; ///< up to the content's opening quote
  std::string tail;   ///< behind the closing quote; only without logprobs
  std::string end;    ///< behind the choices' closing bracket
};

chunk_frame make_frame(const answer_shape& shape) {
  const auto& who = shape.identity;
  chunk_frame out;
  out.head = R"(data: {"id":")" + who.id + R"(","object":")" +
             (who.chat ? "chat.completion.chunk" : "text_completion") + R"(","created":)" +
             std::to_string(who.created) + R"(,"model":)";
  append_json_string(out.head, who.model);
  out.head += R"(,"choices":[{"index":)";
  out.middle = who.chat ? R"(,"delta":{"content":)" : R"(,"text":)";
  out.end = shape.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n";
  out.tail = (who.chat ? R"(},"logprobs":null,"finish_reason":null})"
                       : R"(,"logprobs":null,"finish_reason":null})") +
             out.end;
  return out;
}

class stream_sink final : public actors::reply_sink,
                          public std::enable_shared_from_this<stream_sink> {
public:
  stream_sink(std::shared_ptr<reply_channel> channel, answer_shape shape)
      : channel_{std::move(channel)}, shape_{std::move(shape)}, frame_{make_frame(shape_)},
        opened_(shape_.choices, false), offsets_(shape_.choices) {}

  /// Comments on a silent stream come from the network side's thread.
  void keep_alive() {
    std::lock_guard guard{lock_};
    if (ended_)
      return;
    start();
    channel_->write(": keep-alive\n\n");
  }

  void on_accepted(uint32_t) override {
    std::lock_guard guard{lock_};
    start();
  }

  void on_progress(const actors::load_progress& progress) override {
    std::string comment = ": ";
    comment += progress.phase;
    comment += ' ';
    comment += progress.model.text;
    for (auto& c : comment) // a line break would end the comment
      if (static_cast<unsigned char>(c) < 0x20)
        c = ' ';
    if (progress.total_bytes > 0) {
      // In floating point: bytes times 100 could overflow, and a percentage needs no precision.
      const auto share = 100.0 * double(progress.done_bytes) / double(progress.total_bytes);
      comment += ' ';
      append_json_number(comment, static_cast<uint64_t>(std::min(share, 100.0)));
      comment += '%';
    }
    if (progress.phase != "ready")
      comment += " ...";
    std::lock_guard guard{lock_};
    start();
    channel_->write(comment + "\n\n");
  }

  void on_text(actors::text_piece piece) override {
    std::lock_guard guard{lock_};
    start();
    buffer_.clear();
    open_choice(piece.choice);
    if (piece.text.empty() && piece.logprobs.empty())
      return write_buffer();
    buffer_ += frame_.head;
    append_json_number(buffer_, uint64_t{piece.choice});
    buffer_ += frame_.middle;
    append_json_string(buffer_, piece.text);
    if (shape_.logprobs)
      append_logprob_tail(piece);
    else
      buffer_ += frame_.tail;
    write_buffer();
  }

  void on_finish(uint32_t choice, engine::finish_reason reason) override {
    std::lock_guard guard{lock_};
    start();
    buffer_.clear();
    open_choice(choice);
    buffer_ += frame_.head;
    append_json_number(buffer_, uint64_t{choice});
    buffer_ += shape_.identity.chat ? R"(,"delta":{},"logprobs":null,"finish_reason":)"
                                    : R"(,"text":"","logprobs":null,"finish_reason":)";
    buffer_ += finish_text(reason);
    buffer_ += '}';
    buffer_ += frame_.end;
    write_buffer();
  }

  void on_done(const actors::usage& used, const actors::request_timing&) override {
    std::lock_guard guard{lock_};
    start();
    ended_ = true;
    buffer_.clear();
    if (shape_.include_usage) {
      constexpr std::string_view first_choice = R"({"index":)";
      buffer_.assign(frame_.head, 0, frame_.head.size() - first_choice.size());
      buffer_ += R"(],"usage":)";
      append_usage(buffer_, used);
      buffer_ += "}\n\n";
    }
    if (shape_.ending && *shape_.ending)
      buffer_ += "data: " + error_body(**shape_.ending) + "\n\n";
    buffer_ += "data: [DONE]\n\n";
    channel_->finish(buffer_);
  }

  void on_failure(const actors::failure& why) override {
    std::lock_guard guard{lock_};
    ended_ = true;
    const auto error = to_api_error(why);
    if (!started_)
      return channel_->send(error_response(error));
    channel_->finish("data: " + error_body(error) + "\n\ndata: [DONE]\n\n");
  }

private:
  void start() {
    if (started_)
      return;
    started_ = true;
    channel_->start_stream();
  }

  void write_buffer() {
    if (!buffer_.empty())
      channel_->write(buffer_);
  }

  /// The first chunk of a chat choice names the role.
  void open_choice(uint32_t choice) {
    if (!shape_.identity.chat || opened_.at(choice))
      return;
    opened_[choice] = true;
    buffer_ += frame_.head;
    append_json_number(buffer_, uint64_t{choice});
    buffer_ += R"(,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,)"
               R"("finish_reason":null})";
    buffer_ += frame_.end;
  }

  void append_logprob_tail(const actors::text_piece& piece) {
    if (shape_.identity.chat) {
      buffer_ += R"(},"logprobs":{"content":[)";
      append_chat_logprobs(buffer_, piece.logprobs);
      buffer_ += R"(],"refusal":null},"finish_reason":null})";
    } else {
      completion_logprobs lists;
      lists.add(piece, offsets_.at(piece.choice));
      buffer_ += R"(,"logprobs":)";
      if (lists.empty())
        buffer_ += "null";
      else
        lists.append_to(buffer_);
      buffer_ += R"(,"finish_reason":null})";
    }
    buffer_ += frame_.end;
  }

  std::shared_ptr<reply_channel> channel_;
  answer_shape shape_;
  chunk_frame frame_;
  /// Guards what follows, and keeps comments out of the middle of events.
  std::mutex lock_;
  std::vector<bool> opened_;
  std::vector<text_offsets> offsets_;
  std::string buffer_;
  bool started_ = false;
  bool ended_ = false;
};

} // namespace

std::shared_ptr<actors::reply_sink> make_stream_sink(std::shared_ptr<reply_channel> channel,
                                                     answer_shape shape) {
  auto sink = std::make_shared<stream_sink>(channel, std::move(shape));
  channel->on_silence([weak = std::weak_ptr<stream_sink>{sink}] {
    if (const auto alive = weak.lock())
      alive->keep_alive();
  });
  return sink;
}

} // namespace troupe::gateway

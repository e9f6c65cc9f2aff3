// A request's tokens, between the node and the sink that answers the client.
#include <mutex>

#include "gateway/access.hpp"
#include "gateway/sinks.hpp"

namespace troupe::gateway {

namespace {

/// Reserves once the prompt has been counted and before anything is sent.
class quota_sink final : public actors::reply_sink {
public:
  quota_sink(std::shared_ptr<actors::reply_sink> to, admitted_request what)
      : to_{std::move(to)}, what_{std::move(what)} {}

  void on_accepted(uint32_t prompt_tokens) override {
    const auto now = std::chrono::steady_clock::now();
    if (const auto why = what_.ticket->reserve(prompt_tokens, what_.answer_max, now)) {
      refused_ = true;
      show_limits(*what_.who, *what_.channel, now);
      to_->on_failure(over_limit(*what_.who, *why));
      return what_.cancel();
    }
    show_limits(*what_.who, *what_.channel, now);
    to_->on_accepted(prompt_tokens);
  }
  void on_progress(const actors::load_progress& progress) override {
    if (!refused_)
      to_->on_progress(progress);
  }
  void on_token(const actors::usage& so_far) override {
    if (!refused_)
      note(so_far);
  }
  void on_text(actors::text_piece piece) override {
    if (!refused_)
      to_->on_text(std::move(piece));
  }
  void on_finish(uint32_t choice, engine::finish_reason reason) override {
    if (!refused_)
      to_->on_finish(choice, reason);
  }
  void on_done(const actors::usage& used, const actors::request_timing& timing) override {
    if (refused_)
      return;
    note(used);
    // Before the answer goes out: who asks again at once finds its place free.
    what_.ticket.reset();
    to_->on_done(used, timing);
  }
  void on_failure(const actors::failure& why) override {
    if (refused_)
      return;
    what_.ticket.reset();
    to_->on_failure(why);
  }

private:
  void note(const actors::usage& so_far) {
    what_.ticket->used(so_far, what_.model, std::chrono::system_clock::now());
  }

  std::shared_ptr<actors::reply_sink> to_;
  admitted_request what_;
  bool refused_ = false;
};

} // namespace

std::shared_ptr<actors::reply_sink> make_quota_sink(std::shared_ptr<actors::reply_sink> to,
                                                    admitted_request what) {
  return std::make_shared<quota_sink>(std::move(to), std::move(what));
}

} // namespace troupe::gateway

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
      : to_{std::move(to)}, what_{std::move(what)}, finished_(what_.choices, false) {}

  void on_accepted(uint32_t prompt_tokens) override {
    const auto now = std::chrono::steady_clock::now();
    const auto why = what_.ticket->reserve(prompt_tokens, what_.answer_max, now, wall());
    show_limits(*what_.who, *what_.channel, now);
    if (!why)
      return to_->on_accepted(prompt_tokens);
    ended_ = true;
    to_->on_failure(over_limit(*what_.who, *why));
    what_.cancel();
  }
  void on_watched(policies::quota_kind limit) override { what_.who->note_refused(limit); }
  void on_progress(const actors::load_progress& progress) override {
    if (!ended_)
      to_->on_progress(progress);
  }
  void on_token(const actors::usage& so_far) override {
    if (ended_)
      return;
    if (what_.ticket->used(so_far, what_.model, wall()))
      paid_ = so_far;
    else
      cut();
  }
  void on_text(actors::text_piece piece) override {
    if (!ended_)
      to_->on_text(std::move(piece));
  }
  void on_finish(uint32_t choice, engine::finish_reason reason) override {
    if (ended_)
      return;
    finished_.at(choice) = true;
    to_->on_finish(choice, reason);
  }
  void on_done(const actors::usage& used, const actors::request_timing& timing) override {
    if (ended_)
      return;
    what_.ticket->used(used, what_.model, wall(), true);
    // Before the answer goes out: who asks again at once finds its place free.
    what_.ticket.reset();
    to_->on_done(used, timing);
  }
  void on_failure(const actors::failure& why) override {
    if (ended_)
      return;
    if (why.kind == actors::failure_kind::tenant_cap && why.limit)
      what_.who->note_refused(*why.limit);
    if (never_ran(why.kind))
      what_.ticket->never_ran();
    what_.ticket.reset();
    to_->on_failure(why);
  }

private:
  static bool never_ran(actors::failure_kind why) {
    using kind = actors::failure_kind;
    return why == kind::tenant_cap || why == kind::queue_full || why == kind::no_capacity ||
           why == kind::load_failed;
  }
  static policies::wall_time wall() { return std::chrono::system_clock::now(); }

  /// The budget is spent: what was paid for is the answer.
  void cut() {
    ended_ = true;
    const auto why = over_limit(*what_.who, what_.who->budget_refusal(wall()));
    what_.ticket.reset();
    if (paid_) {
      *what_.ending = to_api_error(why);
      for (uint32_t i = 0; i < finished_.size(); ++i)
        if (!finished_[i])
          to_->on_finish(i, engine::finish_reason::length);
      to_->on_done(*paid_, {});
    } else {
      to_->on_failure(why);
    }
    what_.cancel();
  }

  std::shared_ptr<actors::reply_sink> to_;
  admitted_request what_;
  std::vector<bool> finished_;
  std::optional<actors::usage> paid_;
  bool ended_ = false; ///< refused or cut: what still comes is nobody's business
};

} // namespace

std::shared_ptr<actors::reply_sink> make_quota_sink(std::shared_ptr<actors::reply_sink> to,
                                                    admitted_request what) {
  return std::make_shared<quota_sink>(std::move(to), std::move(what));
}

} // namespace troupe::gateway

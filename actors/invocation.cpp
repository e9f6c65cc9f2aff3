#include "actors/invocation.hpp"

#include <algorithm>

#include <caf/all.hpp>

#include "actors/failures.hpp"
#include "actors/sampling.hpp"

namespace troupe::actors {

namespace {

using pointer = invocation_actor::stateful_pointer<invocation_state>;
using phase = invocation_choice::phase;

/// Reading a tokenizer takes seconds at worst; more means that its disk hangs.
constexpr auto text_timeout = std::chrono::seconds{120};
/// The files may have to come first; the request's own deadline ends it earlier.
constexpr auto fetch_timeout = std::chrono::seconds{3700};

double seconds(duration x) { return std::chrono::duration<double>(x).count(); }

/// What is known now goes to those who ask what became of this request.
void note(pointer self, request_state what) {
  auto& state = self->state;
  auto& out = state.record;
  out.state = what;
  out.is_cold = state.timing.cold;
  out.queued = seconds(state.timing.queued);
  out.first_token = seconds(state.timing.first_token);
  out.total = seconds(self->clock().now() - state.accepted);
  out.prompt_tokens = state.used.prompt_tokens;
  out.cached_tokens = state.used.cached_tokens;
  out.completion_tokens = state.used.completion_tokens;
  state.setup.log->put(out);
}

void cancel_on_worker(pointer self, const invocation_choice& choice, sequence_id id) {
  self->send(caf::actor_cast<worker_actor>(choice.worker), atom::cancel_v,
             sequence_ref{self->state.setup.request.model, id, choice.text.epoch()});
}

/// Stops whatever still runs or waits for this request, and ends.
void wind_up(pointer self) {
  auto& state = self->state;
  state.ended = true;
  for (uint32_t i = 0; i < state.choices.size(); ++i) {
    auto& choice = state.choices[i];
    if (choice.at == phase::finished)
      continue;
    const sequence_id id{state.setup.number, i};
    if (choice.at == phase::running)
      cancel_on_worker(self, choice, id);
    self->send(state.setup.scheduler, atom::withdraw_v, state.setup.request.model, id);
  }
  state.watched.leave_all(self);
  self->quit();
}

void fail(pointer self, failure why) {
  auto& state = self->state;
  if (state.ended)
    return;
  state.setup.meters->request_ended(state.setup.request.model, "failed");
  state.record.failure = kind_name(why.kind);
  note(self, request_state::failed);
  state.setup.sink->on_failure(why);
  wind_up(self);
}

void succeed(pointer self) {
  auto& state = self->state;
  const auto now = self->clock().now();
  state.timing.total = now - state.accepted;
  state.meters->end_to_end->Observe(seconds(state.timing.total));
  state.setup.meters->request_ended(state.setup.request.model, "finished");
  note(self, request_state::finished);
  state.setup.sink->on_done(state.used, state.timing);
  wind_up(self);
}

/// How many tokens an answer may have.
uint32_t answer_max(pointer self, uint32_t prompt_tokens) {
  const auto& asked = self->state.setup.request.sampling;
  const auto left = self->state.model->text->context_length() - prompt_tokens;
  return asked.max_tokens.value_or(std::min(left, asked.max_tokens_allowed.value_or(left)));
}

void enqueue(pointer self, const std::vector<uint32_t>& which, bool resumed,
             caf::strong_actor_ptr lost_worker = nullptr) {
  auto& state = self->state;
  enqueue_order order{.model = state.setup.request.model,
                      .sequences = {},
                      .takes = state.model->takes,
                      .keep_alive = state.setup.request.keep_alive,
                      .caps = state.setup.request.caps,
                      .lost_worker = std::move(lost_worker)};
  const auto now = self->clock().now();
  const auto& request = state.setup.request;
  for (const auto i : which) {
    auto& choice = state.choices[i];
    choice.at = phase::queued;
    choice.worker = nullptr;
    const auto prompt = static_cast<uint32_t>(state.prompts[choice.prompt].size());
    order.sequences.push_back({.id = {state.setup.number, i},
                               .epoch = choice.text.reopen(),
                               .accepted = state.accepted,
                               .since = now,
                               .resumed = resumed,
                               .tenant = {request.tenant_id(), request.tenant_weight},
                               .tenant_name = request.tenant,
                               .priority = request.priority,
                               .input_tokens = prompt,
                               // The other choices of a prompt find it computed.
                               .cached_tokens = i % request.n == 0 ? 0 : prompt,
                               .output_max = answer_max(self, prompt)});
  }
  self->send(state.setup.scheduler, atom::enqueue_v, std::move(order));
}

/// These choices lost their worker: they go on elsewhere, from the tokens they have.
void resume(pointer self, const std::vector<uint32_t>& which,
            caf::strong_actor_ptr lost_worker = nullptr) {
  auto& state = self->state;
  if (state.ended || which.empty())
    return;
  for (const auto i : which)
    if (state.choices[i].text.hopeless())
      return fail(self, {.kind = failure_kind::internal,
                         .message = "the worker was lost " +
                                    std::to_string(policies::token_gate::fruitless_max) +
                                    " times in a row while running this request",
                         .param = {},
                         .retry_after = {}});
  ++state.record.worker_changes;
  enqueue(self, which, true, std::move(lost_worker));
}

caf::error encode_prompts(pointer self) {
  auto& state = self->state;
  for (const auto& prompt : state.setup.request.prompts) {
    auto tokens = state.model->text->encode(prompt);
    if (!tokens)
      return tokens.error();
    state.used.prompt_tokens += static_cast<uint32_t>(tokens->size());
    state.prompts.push_back(std::move(*tokens));
  }
  return {};
}

std::optional<failure> check_request(pointer self) {
  auto& state = self->state;
  const auto& request = state.setup.request;
  const auto& text = *state.model->text;
  if (auto why = encode_prompts(self)) {
    auto out = to_failure(why);
    if (out.kind != failure_kind::unsupported)
      out.kind = failure_kind::invalid_request;
    out.param =
        request.prompts.size() == 1 && std::holds_alternative<chat_prompt>(request.prompts[0])
            ? "messages"
            : "prompt";
    return out;
  }
  for (const auto& tokens : state.prompts) {
    if (tokens.empty())
      return failure{failure_kind::invalid_request, "the prompt has no tokens", "prompt", {}};
    if (auto why = check_context(text.context_length(), tokens.size(), request.sampling.max_tokens))
      return why;
  }
  state.sampling = merge_sampling(request.sampling, text.defaults(), text.context_length());
  if (auto why = text.check(state.sampling))
    return failure{failure_kind::invalid_request, describe(why), {}, {}};
  return std::nullopt;
}

void make_choices(pointer self) {
  auto& state = self->state;
  const auto& request = state.setup.request;
  const auto seed = request.sampling.seed.value_or(state.setup.drawn_seed);
  for (size_t p = 0; p < state.prompts.size(); ++p)
    for (uint32_t i = 0; i < request.n; ++i) {
      const auto index = static_cast<uint32_t>(state.choices.size());
      state.choices.push_back(
          {.at = phase::queued,
           .prompt = p,
           .seed = seed + i,
           .text = generation{*state.model->text, index,
                              !std::holds_alternative<chat_prompt>(request.prompts[p]),
                              request.sampling.stop, request.sampling.top_logprobs >= 0},
           .worker = nullptr,
           .last_token = {}});
      if (request.echo) {
        const auto* text = std::get_if<text_prompt>(&request.prompts[p]);
        state.setup.sink->on_text(
            {.choice = index,
             .text = text ? text->text : state.model->text->decode(state.prompts[p]),
             .logprobs = {}});
      }
    }
}

/// The model's text side is there: checks the request and puts it into the queue.
void accept(pointer self, std::shared_ptr<const model_text> model) {
  auto& state = self->state;
  if (state.ended)
    return;
  state.model = std::move(model);
  if (auto why = check_request(self))
    return fail(self, std::move(*why));
  state.meters->prompt_tokens->Increment(state.used.prompt_tokens);
  state.setup.sink->on_accepted(state.used.prompt_tokens);
  make_choices(self);
  state.record.choices = static_cast<uint32_t>(state.choices.size());
  state.record.text = seconds(self->clock().now() - state.accepted);
  note(self, request_state::running);
  if (state.setup.request.sampling.max_tokens == 0u) {
    // Nothing to generate: a way to have a prompt counted or echoed.
    for (uint32_t i = 0; i < state.choices.size(); ++i) {
      state.choices[i].at = phase::finished;
      state.setup.sink->on_finish(i, engine::finish_reason::length);
    }
    return succeed(self);
  }
  std::vector<uint32_t> all(state.choices.size());
  for (uint32_t i = 0; i < all.size(); ++i)
    all[i] = i;
  enqueue(self, all, false);
}

void begin(pointer self) {
  auto& state = self->state;
  state.accepted = self->clock().now();
  state.meters = &state.setup.meters->of(state.setup.request.model);
  const auto& request = state.setup.request;
  auto& record = state.record;
  record.number = state.setup.number;
  record.id = request.id;
  record.answer_id = request.answer_id;
  record.model = request.model;
  record.tenant = request.tenant;
  record.received = std::chrono::system_clock::now();
  if (request.received != instant{})
    record.admission = std::max(0.0, seconds(state.accepted - request.received));
  state.setup.card->requests.fetch_add(1, std::memory_order_relaxed);
  state.setup.card->touch();
  if (auto text = state.setup.card->text.load())
    return accept(self, std::move(text));
  const bool here = !state.setup.card->source.dir.empty();
  self->request(state.setup.model, here ? text_timeout : fetch_timeout, atom::text_v)
      .then(
          [self](model_text& text) { accept(self, std::make_shared<model_text>(std::move(text))); },
          [self](caf::error& why) {
            auto out = to_failure(why);
            if (why == caf::sec::request_timeout)
              out.message = "reading the tokenizer of model " +
                            self->state.setup.request.model.text + " took more than two minutes";
            if (out.kind == failure_kind::internal || out.kind == failure_kind::invalid_request)
              out.kind = failure_kind::load_failed;
            fail(self, std::move(out));
          });
}

void dispatch(pointer self, const dispatch_order& order) {
  auto& state = self->state;
  if (state.ended || order.id.choice >= state.choices.size())
    return;
  auto& choice = state.choices[order.id.choice];
  if (choice.at != phase::queued || choice.text.epoch() != order.epoch)
    return;
  choice.at = phase::running;
  choice.worker = order.worker;
  state.record.worker = order.worker_name;
  const auto worker = caf::actor_cast<worker_actor>(order.worker);
  state.watched.watch(self, worker);
  if (!state.dispatched) {
    state.dispatched = true;
    state.timing.queued = self->clock().now() - state.accepted;
    state.meters->queue_time->Observe(seconds(state.timing.queued));
  }
  const auto& prompt = state.prompts[choice.prompt];
  engine::sequence_request sequence;
  sequence.id = order.id;
  sequence.epoch = order.epoch;
  sequence.tokens.reserve(prompt.size() + choice.text.tokens().size());
  sequence.tokens = prompt;
  sequence.tokens.insert(sequence.tokens.end(), choice.text.tokens().begin(),
                         choice.text.tokens().end());
  sequence.prompt_size = static_cast<uint32_t>(prompt.size());
  sequence.sampling = state.sampling;
  sequence.sampling.seed = choice.seed;
  sequence.urgent = order.urgent;
  sequence.salt = state.setup.request.tenant_id();
  sequence.sampling.max_tokens = answer_max(self, sequence.prompt_size);
  self->send(worker, atom::run_v, run_order{state.setup.request.model, std::move(sequence)});
}

/// The first token, of a prompt of which `reused` tokens were known, is there; `batch.computing` of
/// the time to it was the worker's own work.
void note_first_token(pointer self, instant now, const token_batch& batch, size_t prompt,
                      uint32_t reused) {
  auto& state = self->state;
  state.timing.first_token = now - state.accepted;
  state.record.prefill = seconds(batch.computing);
  const auto size = static_cast<uint32_t>(state.prompts[prompt].size());
  if (!batch.is_part && batch.computing > duration{0})
    self->send(state.setup.scheduler, atom::prefill_v,
               prefill_note{state.setup.request.model,
                            {size, size - std::min(size, reused)},
                            seconds(batch.computing)});
  if (state.record.forecast)
    state.setup.meters->foretold(state.record.forecast->state, state.record.forecast->first_token,
                                 seconds(state.timing.first_token));
  state.meters->first_token->Observe(seconds(state.timing.first_token));
  const auto received = state.setup.request.received;
  const auto since = received == instant{} ? state.accepted : std::min(received, state.accepted);
  if (!state.timing.cold)
    state.meters->dispatch->Observe(seconds(std::max(duration{0}, now - since - batch.computing)));
}

void take(pointer self, const engine::token_event& event, const token_batch& batch) {
  auto& state = self->state;
  if (event.id.number != state.setup.number || event.id.choice >= state.choices.size())
    return;
  auto& choice = state.choices[event.id.choice];
  if (choice.at != phase::running)
    return;
  auto piece = choice.text.accept(event);
  if (!piece)
    return;
  const auto now = self->clock().now();
  if (state.timing.first_token.count() == 0)
    note_first_token(self, now, batch, choice.prompt, event.reused);
  if (choice.last_token != instant{})
    state.meters->inter_token->Observe(seconds(now - choice.last_token));
  choice.last_token = now;
  // A prompt counts once, however many choices it has.
  if (event.offset == 0 && event.id.choice % state.setup.request.n == 0)
    state.used.cached_tokens += event.reused;
  ++state.used.completion_tokens;
  state.record.preemptions += event.preempted;
  state.meters->generated_tokens->Increment();
  state.setup.card->generated_tokens.fetch_add(1, std::memory_order_relaxed);
  state.setup.sink->on_token(state.used);
  if (!piece->text.empty() || !piece->logprobs.empty())
    state.setup.sink->on_text(std::move(*piece));
  const auto finish = choice.text.finish();
  if (finish == engine::finish_reason::none)
    return;
  choice.at = phase::finished;
  ++state.finished;
  if (event.finish == engine::finish_reason::none) // a stop string: the worker does not know of it
    cancel_on_worker(self, choice, event.id);
  state.setup.sink->on_finish(event.id.choice, finish);
}

void take_all(pointer self, const token_batch& batch) {
  auto& state = self->state;
  if (state.ended)
    return;
  for (const auto& event : batch.events)
    take(self, event, batch);
  if (!state.choices.empty() && state.finished == state.choices.size())
    succeed(self);
}

void lost(pointer self, const sequence_loss& loss) {
  auto& state = self->state;
  const auto index = loss.sequence.id.choice;
  if (state.ended || index >= state.choices.size())
    return;
  auto& choice = state.choices[index];
  if (choice.at != phase::running || choice.text.epoch() != loss.sequence.epoch)
    return;
  if (loss.kind == loss_kind::retry) {
    // It may not know of the loss, or have been given the sequence after it.
    cancel_on_worker(self, choice, loss.sequence.id);
    return resume(self, {index});
  }
  fail(self, {.kind = loss.kind == loss_kind::invalid ? failure_kind::invalid_request
                                                      : failure_kind::internal,
              .message = loss.message,
              .param = {},
              .retry_after = {}});
}

void expire(pointer self) {
  fail(self, {.kind = failure_kind::timed_out,
              .message = "the request took longer than its timeout of " +
                         std::to_string(self->state.setup.request.timeout.count()) + " ms",
              .param = {},
              .retry_after = {}});
}

void on_down(pointer self, const caf::down_msg& down) {
  auto& state = self->state;
  if (state.ended)
    return;
  if (down.source == state.setup.gateway)
    return fail(self, {.kind = failure_kind::shutting_down,
                       .message = "the server is shutting down",
                       .param = {},
                       .retry_after = std::chrono::seconds{5}});
  if (down.source == state.setup.scheduler)
    return fail(self, {.kind = failure_kind::internal,
                       .message = "the scheduler failed",
                       .param = {},
                       .retry_after = {}});
  std::vector<uint32_t> orphans;
  caf::strong_actor_ptr lost_worker;
  for (uint32_t i = 0; i < state.choices.size(); ++i)
    if (state.choices[i].at == phase::running &&
        same_handle(down.source, state.choices[i].worker)) {
      orphans.push_back(i);
      lost_worker = state.choices[i].worker;
    }
  resume(self, orphans, std::move(lost_worker));
}

void refused(pointer self, const refusal_notice& refusal) {
  auto& state = self->state;
  const auto index = refusal.id.choice;
  if (!refusal.enforced) {
    if (!state.ended && refusal.why.limit)
      state.setup.sink->on_watched(*refusal.why.limit);
    return;
  }
  if (index < state.choices.size() && state.choices[index].text.epoch() == refusal.epoch &&
      state.choices[index].at != phase::finished)
    fail(self, refusal.why);
}

} // namespace

invocation_actor::behavior_type invocation(pointer self, invocation_setup setup) {
  self->state.setup = std::move(setup);
  self->set_down_handler([self](const caf::down_msg& down) {
    self->state.setup.self_card->handled();
    self->state.watched.forget(down.source);
    on_down(self, down);
  });
  self->state.watched.watch(self, self->state.setup.scheduler);
  self->state.watched.watch(self, self->state.setup.gateway);
  const auto count = [self] { self->state.setup.self_card->handled(); };
  return {
      [=](atom::tokens, const token_batch& batch) { count(), take_all(self, batch); },
      [=](atom::lost, const sequence_loss& loss) { count(), lost(self, loss); },
      [=](atom::begin) { count(), begin(self); },
      [=](atom::dispatch, const dispatch_order& order) { count(), dispatch(self, order); },
      [=](atom::refuse, const refusal_notice& refusal) { count(), refused(self, refusal); },
      [self](atom::progress, const load_progress& progress) {
        auto& state = self->state;
        state.setup.self_card->handled();
        if (state.ended)
          return;
        state.timing.cold = state.timing.cold || !state.dispatched;
        state.setup.sink->on_progress(progress);
      },
      [self](atom::forecast, const request_forecast& x) {
        auto& state = self->state;
        state.setup.self_card->handled();
        state.record.forecast = x;
        // A quick load is over before it has told of any progress.
        state.timing.cold = state.timing.cold || x.state != "resident";
      },
      [self](atom::receipt, const load_account& x) {
        auto& state = self->state;
        state.setup.self_card->handled();
        if (state.timing.cold)
          state.record.load = request_load{x.bytes, x.seconds, x.source};
      },
      [self](atom::cancel) {
        auto& state = self->state;
        state.setup.self_card->handled();
        if (state.ended)
          return;
        state.setup.meters->request_ended(state.setup.request.model, "cancelled");
        note(self, request_state::cancelled);
        wind_up(self);
      },
      [=](atom::expire) { count(), expire(self); },
  };
}

} // namespace troupe::actors

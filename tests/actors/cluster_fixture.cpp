#include "tests/actors/cluster_fixture.hpp"

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <stdexcept>

#include "actors/checkpoint_loader.hpp"
#include "actors/directory.hpp"
#include "actors/gateway_actor.hpp"
#include "actors/gpu_worker.hpp"
#include "actors/invocation.hpp"
#include "actors/model.hpp"
#include "actors/registry.hpp"
#include "actors/scheduler.hpp"
#include "actors/system_config.hpp"
#include "engine/errors.hpp"
#include "storage/errors.hpp"
#include "storage/store/arrival.hpp"
#include "tests/actors/fake_engine.hpp"

namespace troupe::actors::testing {

void recorder::on_accepted(uint32_t prompt_tokens) {
  note();
  accepted = prompt_tokens;
}
void recorder::on_progress(const load_progress& x) {
  note();
  progress.push_back(x);
}
void recorder::on_text(text_piece piece) {
  note();
  text[piece.choice] += piece.text;
  auto& all = logprobs[piece.choice];
  all.insert(all.end(), piece.logprobs.begin(), piece.logprobs.end());
}
void recorder::on_finish(uint32_t choice, engine::finish_reason reason) {
  note();
  finished[choice] = reason;
}
void recorder::on_done(const usage& x, const request_timing& y) {
  note();
  used = x;
  timing = y;
}
void recorder::on_failure(const failure& why) {
  note();
  failed = why;
}

std::string expected_text(const std::string& prompt, uint64_t seed, uint32_t tokens) {
  std::vector<engine::token_id> all{prompt.begin(), prompt.end()};
  for (uint32_t i = 0; i < tokens; ++i)
    all.push_back(next_token(all, seed, i));
  return {all.begin() + static_cast<std::ptrdiff_t>(prompt.size()), all.end()};
}

invocation_request make_request(const std::string& model, const std::string& prompt,
                                uint32_t tokens, uint64_t seed) {
  invocation_request out;
  out.id.text = "req_test";
  out.model = {model};
  out.prompts = {text_prompt{prompt}};
  out.sampling.max_tokens = tokens;
  out.sampling.seed = seed;
  return out;
}

namespace {

struct test_config : system_config {
  test_config() { set("scheduler.policy", caf::atom("testing")); }
};

/// A loader that takes its time, virtually, and reports half-way.
struct fake_loader_state {
  std::chrono::milliseconds time;
  std::set<std::string> arriving;
  std::shared_ptr<size_t> begun;
  std::shared_ptr<std::map<std::string, caf::error>> broken;
  std::shared_ptr<load_book> book;
};

/// What every model's load brings, as far as its account goes.
constexpr policies::tier_bytes loaded_bytes{0, 1e9, 0, 0, 0};

/// Foresees loads by the real book.
struct fake_stager_state {
  std::shared_ptr<load_book> book;
};

stager_actor::behavior_type fake_stager(stager_actor::stateful_pointer<fake_stager_state> self,
                                        std::shared_ptr<load_book> book) {
  self->state.book = std::move(book);
  return {
      [self](atom::survey, const load_order& order) {
        const auto worker = caf::actor_cast<gpu_worker_actor>(self->current_sender());
        self->send(worker, atom::forecast_v,
                   self->state.book->forecast(worker.id(), {order.model, loaded_bytes},
                                              self->clock().now()));
      },
      [](atom::prefetch, const load_order&, double) {},
      [](atom::spare, const model_ref&) {},
      [](atom::probe, const std::string&) {},
  };
}

checkpoint_loader_actor::behavior_type
fake_loader(checkpoint_loader_actor::stateful_pointer<fake_loader_state> self,
            fake_loader_state setup) {
  self->state = std::move(setup);
  return {
      [self](atom::load, const load_order& order) {
        const auto worker = caf::actor_cast<gpu_worker_actor>(self->current_sender());
        const auto& state = self->state;
        ++*state.begun;
        self->send(worker, atom::progress_v, load_progress{order.model, "loading", 0, 100});
        self->delayed_send(worker, state.time / 2, atom::progress_v,
                           load_progress{order.model, "loading", 50, 100});
        opened_model out;
        out.order = order;
        if (state.arriving.contains(order.model.text) && !order.whole)
          out.order.arriving = std::make_shared<storage::arriving_model>(
              order.dir, 100, std::vector<std::shared_ptr<storage::arrival>>{});
        out.weight_bytes = 100;
        out.why = (*state.broken)[order.model.text];
        self->delayed_send(worker, state.time, atom::opened_v, out);
        const auto now = self->clock().now();
        state.book->begin(worker.id(), order.model, now);
        (void)state.book->came(worker.id(), order.model, loaded_bytes, now + state.time);
      },
      [](atom::fetched, const fetched_model&) {
        throw std::logic_error("nothing is fetched here");
      },
  };
}

} // namespace

struct cluster::state {
  cluster_options options;
  test_config config;
  caf::actor_system system{config};
  caf::scheduler::test_coordinator& jobs =
      dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler());
  std::shared_ptr<metrics> meters = std::make_shared<metrics>();
  std::shared_ptr<std::atomic<size_t>> joined = std::make_shared<std::atomic<size_t>>(0);
  std::shared_ptr<directory> where = std::make_shared<directory>();
  std::shared_ptr<std::map<std::string, caf::error>> broken =
      std::make_shared<std::map<std::string, caf::error>>();
  std::shared_ptr<std::string> bad_tokenizer = std::make_shared<std::string>();
  std::shared_ptr<size_t> tokenizers = std::make_shared<size_t>(0);
  std::shared_ptr<size_t> begun = std::make_shared<size_t>(0);
  std::map<std::string, std::shared_ptr<engine_ledger>> ledgers;
  std::map<model_id, model_card_ptr> cards;
  std::shared_ptr<request_log> log = std::make_shared<request_log>(1000);
  std::shared_ptr<load_book> book = std::make_shared<load_book>();
  registry_actor registry;
  scheduler_actor scheduler;
  gateway_actor gateway;
  std::vector<gpu_worker_actor> workers;
  std::vector<checkpoint_loader_actor> loaders;
  std::vector<invocation_actor> invocations;
  uint64_t numbers = 0;

  static actor_card_ptr card(const char* type) { return std::make_shared<actor_card>(type, type); }
};

cluster::cluster(cluster_options options) : state_{std::make_unique<state>()} {
  auto& s = *state_;
  s.options = std::move(options);
  scheduler_setup setup;
  setup.policy.queue_max = s.options.queue_max;
  setup.policy.keep_alive = s.options.keep_alive;
  setup.meters = s.meters;
  setup.log = s.log;
  setup.workers = s.joined;
  setup.self_card = state::card("scheduler");
  for (const auto& [name, bytes] : s.options.models) {
    auto card = std::make_shared<model_card>();
    card->source.id = {name};
    card->source.dir = "/models/" + name;
    card->source.weight_bytes = bytes;
    card->options.sequences_max = s.options.sequences_max;
    s.cards[{name}] = card;
    s.ledgers[name] = std::make_shared<engine_ledger>();
    const auto pinned = std::count(s.options.pinned.begin(), s.options.pinned.end(), name) > 0;
    setup.models.push_back({card, {{name}, std::nullopt, pinned}});
  }
  s.where->stager(s.system.spawn(fake_stager, s.book));
  s.registry = s.system.spawn(registry, "test", state::card("registry"));
  s.scheduler = s.system.spawn(scheduler, std::move(setup));
  s.gateway = s.system.spawn(gateway, state::card("gateway"));
  text_loader_setup text;
  text.cards = s.cards;
  text.self_card = state::card("text-loader");
  text.load = [bad = s.bad_tokenizer, count = s.tokenizers](
                  const model_card& card, const std::string&) -> caf::expected<model_text> {
    ++*count;
    if (!bad->empty())
      return caf::make_error(engine::errc::invalid_config, *bad);
    return model_text{make_fake_text(), nullptr, card.source.weight_bytes};
  };
  s.where->text_loader(s.system.spawn(text_loader, std::move(text)));
  for (const auto& [id, card] : s.cards)
    s.where->model(id, s.system.spawn(model, card, std::shared_ptr<const directory>{s.where},
                                      state::card("model")));
  run();
}

cluster::~cluster() {
  auto& s = *state_;
  const auto stop = [](const auto& x) { caf::anon_send_exit(x, caf::exit_reason::user_shutdown); };
  for (const auto& x : s.invocations)
    stop(x);
  for (const auto& x : s.workers)
    stop(x);
  for (const auto& [id, card] : s.cards)
    stop(s.where->model(id));
  stop(s.where->text_loader());
  stop(s.where->stager());
  stop(s.gateway);
  stop(s.scheduler);
  stop(s.registry);
  run();
}

size_t cluster::add_worker(uint64_t limit_bytes) {
  auto& s = *state_;
  const auto loader =
      s.system.spawn(fake_loader, fake_loader_state{s.options.load_time, s.options.arriving,
                                                    s.begun, s.broken, s.book});
  gpu_worker_setup setup;
  setup.node = "node" + std::to_string(s.workers.size());
  setup.device = "fake";
  setup.limit_bytes = limit_bytes;
  setup.home = {"fake", 0};
  setup.make_engine =
      [&s](const opened_model& x) -> caf::expected<std::unique_ptr<engine::engine>> {
    if (s.ledgers.at(x.order.model.text)->twin_gone && !x.order.home.layout.empty())
      return caf::make_error(engine::errc::no_twin, "no other device has these weights any more");
    s.ledgers.at(x.order.model.text)->news = x.order.options.on_weights;
    if (x.order.mapped || x.order.home.layout.empty()) // what is in files is there
      s.ledgers.at(x.order.model.text)->weights = {};
    return std::make_unique<fake_engine>(x.order.options.sequences_max,
                                         s.options.models.at(x.order.model.text),
                                         s.ledgers.at(x.order.model.text));
  };
  setup.loader = loader;
  setup.where = s.where;
  setup.book = s.book;
  setup.registry = s.registry;
  setup.self_card = state::card("gpu-worker");
  const auto card = setup.self_card;
  s.workers.push_back(s.system.spawn(gpu_worker, std::move(setup)));
  caf::anon_send(s.registry, atom::enrol_v,
                 enrolment{caf::actor_cast<caf::strong_actor_ptr>(s.workers.back()), card});
  s.loaders.push_back(loader);
  caf::anon_send(s.workers.back(), atom::enlist_v, caf::actor_cast<cluster_actor>(s.scheduler));
  return s.workers.size() - 1;
}

void cluster::kill_worker(size_t index) {
  caf::anon_send_exit(state_->workers.at(index), caf::exit_reason::kill);
}

void cluster::drain_worker(size_t index) {
  caf::anon_send(state_->workers.at(index), atom::drain_v);
}

void cluster::rejoin_worker(size_t index) {
  auto& s = *state_;
  const auto& worker = s.workers.at(index);
  caf::anon_send(caf::actor_cast<caf::actor>(worker),
                 caf::down_msg{s.scheduler.address(), caf::exit_reason::remote_link_unreachable});
  caf::anon_send(worker, atom::enlist_v, caf::actor_cast<cluster_actor>(s.scheduler));
}

size_t cluster::workers() const { return state_->workers.size(); }

std::shared_ptr<recorder> cluster::submit(invocation_request request) {
  auto& s = *state_;
  auto out = std::make_shared<recorder>();
  invocation_setup setup;
  setup.sink = out;
  setup.card = s.cards.at(request.model);
  setup.model = s.where->model(request.model);
  setup.scheduler = s.scheduler;
  setup.gateway = caf::actor_cast<caf::strong_actor_ptr>(s.gateway);
  setup.meters = s.meters;
  setup.log = s.log;
  setup.self_card = state::card("invocation");
  setup.number = ++s.numbers;
  const auto deadline = s.jobs.clock().now() + request.timeout;
  setup.request = std::move(request);
  const auto self_card = setup.self_card;
  s.invocations.push_back(s.system.spawn(invocation, std::move(setup)));
  const auto erased = caf::actor_cast<caf::strong_actor_ptr>(s.invocations.back());
  caf::anon_send(s.invocations.back(), atom::begin_v);
  caf::anon_send(s.gateway, atom::admit_v, admission{erased, deadline});
  caf::anon_send(s.registry, atom::enrol_v, enrolment{erased, self_card});
  return out;
}

void cluster::cancel(size_t index) {
  caf::anon_send(state_->invocations.at(index), atom::cancel_v);
}

void cluster::crash_invocation(size_t index) {
  caf::anon_send_exit(state_->invocations.at(index), caf::exit_reason::kill);
}

void cluster::shut_gateway() {
  caf::anon_send_exit(state_->gateway, caf::exit_reason::user_shutdown);
}

void cluster::forge_tokens(size_t index, uint32_t epoch, uint32_t offset,
                           const std::string& tokens) {
  token_batch batch;
  for (const char c : tokens)
    batch.events.push_back(
        {{index + 1, 0}, epoch, offset++, c, engine::finish_reason::none, 0, {}});
  caf::anon_send(state_->invocations.at(index), atom::tokens_v, std::move(batch));
}

bool cluster::drained() {
  caf::scoped_actor self{state_->system, true};
  bool out = false;
  auto pending = self->request(state_->gateway, caf::infinite, atom::drain_v);
  run();
  if (state_->jobs.has_job())
    return false;
  if (self->has_next_message())
    pending.receive([&](bool x) { out = x; }, [](const caf::error&) {});
  return out;
}

std::optional<request_record> cluster::record(const std::string& id) const {
  return state_->log->find(id);
}

size_t cluster::running_invocations() {
  size_t out = 0;
  for (const auto& x : actors())
    out += x.type == "invocation";
  return out;
}

void cluster::load(const std::string& model, std::optional<bool> pin) {
  auto& s = *state_;
  answer.reset();
  s.system.spawn([this, &s, model, pin](caf::event_based_actor* self) {
    self->request(s.scheduler, caf::infinite, atom::load_v,
                  load_wish{{model}, pin, s.options.models.at(model)})
        .then([this](model_status& x) { answer = std::move(x); },
              [this](caf::error& why) { answer = std::move(why); });
  });
}

void cluster::unload(const std::string& model) {
  auto& s = *state_;
  answer.reset();
  s.system.spawn([this, &s, model](caf::event_based_actor* self) {
    self->request(s.scheduler, caf::infinite, atom::unload_v, model_id{model})
        .then([this](model_status& x) { answer = std::move(x); },
              [this](caf::error& why) { answer = std::move(why); });
  });
}

model_status cluster::status(const std::string& model) {
  caf::scoped_actor self{state_->system, true};
  model_status out;
  auto pending = self->request(state_->scheduler, caf::infinite, atom::status_v, model_id{model});
  run();
  pending.receive([&](model_status& x) { out = std::move(x); }, [](const caf::error&) {});
  return out;
}

void cluster::break_model(const std::string& model, const std::string& why, bool files_broken) {
  auto& at = (*state_->broken)[model];
  if (why.empty())
    at = {};
  else
    at = files_broken ? caf::make_error(storage::errc::malformed, why)
                      : caf::make_error(storage::errc::unreadable, why);
}

void cluster::break_tokenizer(const std::string& why) { *state_->bad_tokenizer = why; }

void cluster::break_engine(const std::string& model) { state_->ledgers.at(model)->broken = true; }

void cluster::lose_device(const std::string& model) { state_->ledgers.at(model)->lost = true; }

void cluster::silence_engine(const std::string& model, bool silent) {
  state_->ledgers.at(model)->silent = silent;
}

void cluster::hold_engine(const std::string& model, std::optional<engine::held_step> at) {
  state_->ledgers.at(model)->waits = at;
}

void cluster::weights_of(const std::string& model, engine::weight_state state) {
  auto& ledger = *state_->ledgers.at(model);
  ledger.weights = std::move(state);
  if (ledger.news)
    ledger.news();
}

void cluster::lend(const std::string& model, bool lent) {
  auto& ledger = *state_->ledgers.at(model);
  ledger.lent = lent;
  if (!lent && ledger.news)
    ledger.news();
}

void cluster::lose_twin(const std::string& model) { state_->ledgers.at(model)->twin_gone = true; }

size_t cluster::run(size_t count) {
  auto& jobs = state_->jobs.jobs;
  size_t done = 0;
  while (done < count && !jobs.empty()) {
    auto* job = jobs.front();
    state_->jobs.try_run_once();
    ++done;
    // Left alone, the coordinator lets an actor empty its mailbox before the next one runs.
    if (!jobs.empty() && jobs.front() == job)
      std::rotate(jobs.begin(), jobs.begin() + 1, jobs.end());
  }
  return done;
}

bool cluster::run_any(const std::function<size_t(size_t)>& pick) {
  auto& jobs = state_->jobs.jobs;
  if (jobs.empty())
    return false;
  const auto at = pick(jobs.size());
  std::rotate(jobs.begin(), jobs.begin() + static_cast<std::ptrdiff_t>(at),
              jobs.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  return state_->jobs.try_run_once();
}

void cluster::advance(std::chrono::milliseconds time) {
  run();
  state_->jobs.advance_time(time);
  run();
}

void cluster::advance_clock(std::chrono::milliseconds time) { state_->jobs.advance_time(time); }

size_t cluster::tokens_computed() const {
  size_t out = 0;
  for (const auto& [name, ledger] : state_->ledgers)
    out += ledger->tokens;
  return out;
}

size_t cluster::sequences_held() const {
  size_t out = 0;
  for (const auto& [name, ledger] : state_->ledgers)
    out += ledger->held;
  return out;
}

size_t cluster::tokenizers_read() const { return *state_->tokenizers; }

size_t cluster::loads_begun() const { return *state_->begun; }

std::vector<actor_info> cluster::actors() {
  caf::scoped_actor self{state_->system, true};
  std::vector<actor_info> out;
  auto pending = self->request(state_->registry, caf::infinite, atom::list_v);
  run();
  pending.receive([&](actor_list& x) { out = std::move(x.actors); }, [](const caf::error&) {});
  return out;
}

} // namespace troupe::actors::testing

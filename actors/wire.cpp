#include "actors/cluster_types.hpp"

#include <algorithm>

#include "schemas/cluster.capnp.h"
#include "schemas/flat_message.hpp"

namespace troupe::actors::wire {

namespace {

namespace cp = troupe::schemas;

caf::error bad_value(const char* what) {
  return caf::make_error(cp::errc::malformed, std::string{what} + " has an unknown value");
}

std::string text(capnp::Text::Reader x) { return {x.begin(), x.size()}; }

kj::StringPtr view(const std::string& x) { return {x.c_str(), x.size()}; }

void write(capnp::List<capnp::Text>::Builder to, const std::vector<std::string>& from) {
  for (unsigned i = 0; i < from.size(); ++i)
    to.set(i, view(from[i]));
}

std::vector<std::string> read(capnp::List<capnp::Text>::Reader from) {
  std::vector<std::string> out;
  for (const auto& one : from)
    out.push_back(text(one));
  return out;
}

template <class List>
std::vector<engine::token_id> tokens(const List& list) {
  std::vector<engine::token_id> out(list.size());
  for (unsigned i = 0; i < list.size(); ++i)
    out[i] = list[i];
  return out;
}

template <class Builder>
void fill_tokens(Builder list, const std::vector<engine::token_id>& from) {
  for (unsigned i = 0; i < from.size(); ++i)
    list.set(i, from[i]);
}

unsigned count(size_t size) { return static_cast<unsigned>(size); }

void write(cp::SequenceRef::Builder to, const sequence_ref& x) {
  to.setNumber(x.id.number);
  to.setChoice(x.id.choice);
  to.setEpoch(x.epoch);
  to.setModel(view(x.model.text));
}

sequence_ref read(cp::SequenceRef::Reader from) {
  return {{text(from.getModel())}, {from.getNumber(), from.getChoice()}, from.getEpoch()};
}

void write(cp::Sampling::Builder to, const engine::sampling_params& x) {
  to.setTemperature(x.temperature);
  to.setTopP(x.top_p);
  to.setTopK(x.top_k);
  to.setMinP(x.min_p);
  to.setPresencePenalty(x.presence_penalty);
  to.setFrequencyPenalty(x.frequency_penalty);
  to.setRepetitionPenalty(x.repetition_penalty);
  auto bias = to.initLogitBias(count(x.logit_bias.size()));
  for (unsigned i = 0; i < bias.size(); ++i) {
    bias[i].setToken(x.logit_bias[i].first);
    bias[i].setBias(x.logit_bias[i].second);
  }
  to.setSeed(x.seed);
  to.setTopLogprobs(x.top_logprobs);
  to.setMaxTokens(x.max_tokens);
  to.setMinTokens(x.min_tokens);
  to.setIgnoreEos(x.ignore_eos);
  fill_tokens(to.initStopTokenIds(count(x.stop_token_ids.size())), x.stop_token_ids);
}

engine::sampling_params read(cp::Sampling::Reader from) {
  engine::sampling_params x;
  x.temperature = from.getTemperature();
  x.top_p = from.getTopP();
  x.top_k = from.getTopK();
  x.min_p = from.getMinP();
  x.presence_penalty = from.getPresencePenalty();
  x.frequency_penalty = from.getFrequencyPenalty();
  x.repetition_penalty = from.getRepetitionPenalty();
  for (const auto& bias : from.getLogitBias())
    x.logit_bias.emplace_back(bias.getToken(), bias.getBias());
  x.seed = from.getSeed();
  x.top_logprobs = from.getTopLogprobs();
  x.max_tokens = from.getMaxTokens();
  x.min_tokens = from.getMinTokens();
  x.ignore_eos = from.getIgnoreEos();
  x.stop_token_ids = tokens(from.getStopTokenIds());
  return x;
}

void write(cp::Residence::Builder to, const residence_report& x) {
  to.setModel(view(x.model.text));
  to.setWeightsBytes(x.takes.own_bytes);
  to.setRoom(x.room);
  to.setRunning(x.running);
  to.setKvUsage(x.kv_usage);
  to.setContextLength(x.context_length);
  auto work = to.initWork();
  work.setSteps(x.work.steps);
  work.setRows(x.work.rows);
  work.setGuesses(x.work.guesses);
  work.setRightGuesses(x.work.right_guesses);
  work.setRecomputed(x.work.recomputed);
  work.setSwapped(x.work.swapped);
  work.setSwapBytes(x.work.swap_bytes);
  to.setKvBytes(x.kv_bytes);
  to.setWorkspaceBytes(x.takes.workspace_bytes);
}

residence_report read(cp::Residence::Reader from) {
  const auto work = from.getWork();
  return {.model = {text(from.getModel())},
          .takes = {from.getWeightsBytes(), from.getWorkspaceBytes()},
          .room = from.getRoom(),
          .running = from.getRunning(),
          .kv_usage = from.getKvUsage(),
          .context_length = from.getContextLength(),
          .work = {.steps = work.getSteps(),
                   .rows = work.getRows(),
                   .guesses = work.getGuesses(),
                   .right_guesses = work.getRightGuesses(),
                   .recomputed = work.getRecomputed(),
                   .swapped = work.getSwapped(),
                   .swap_bytes = work.getSwapBytes()},
          .kv_bytes = from.getKvBytes()};
}

caf::error read(cp::TokenEvent::Reader from, engine::token_event& x) {
  x.id = {from.getNumber(), from.getChoice()};
  x.epoch = from.getEpoch();
  x.offset = from.getOffset();
  x.token = from.getToken();
  switch (from.getFinish()) {
  case cp::FinishReason::NONE:
    x.finish = engine::finish_reason::none;
    break;
  case cp::FinishReason::STOP:
    x.finish = engine::finish_reason::stop;
    break;
  case cp::FinishReason::LENGTH:
    x.finish = engine::finish_reason::length;
    break;
  default:
    return bad_value("a token's finish reason");
  }
  x.logprob = from.getLogprob();
  x.reused = from.getReused();
  x.preempted = from.getPreempted();
  for (const auto& top : from.getTop())
    x.top.push_back({top.getToken(), top.getLogprob()});
  return {};
}

} // namespace

std::string encode(const sequence_ref& x) {
  capnp::MallocMessageBuilder message;
  write(message.initRoot<cp::SequenceRef>(), x);
  return cp::to_bytes(message);
}

caf::error decode(std::string_view bytes, sequence_ref& x) {
  return cp::from_bytes<cp::SequenceRef>(bytes, "a sequence reference",
                                         [&](auto from) -> caf::error {
                                           x = read(from);
                                           return {};
                                         });
}

std::string encode(const run_order& x) {
  capnp::MallocMessageBuilder message{static_cast<unsigned>(x.sequence.tokens.size() / 2 + 64)};
  auto to = message.initRoot<cp::RunOrder>();
  write(to.initSequence(), sequence_ref{x.model, x.sequence.id, x.sequence.epoch});
  fill_tokens(to.initTokens(count(x.sequence.tokens.size())), x.sequence.tokens);
  to.setPromptSize(x.sequence.prompt_size);
  to.setSalt(x.sequence.salt);
  to.setUrgent(x.sequence.urgent);
  write(to.initSampling(), x.sequence.sampling);
  return cp::to_bytes(message);
}

caf::error decode(std::string_view bytes, run_order& x) {
  return cp::from_bytes<cp::RunOrder>(bytes, "a run order", [&](auto from) -> caf::error {
    auto sequence = read(from.getSequence());
    x.model = std::move(sequence.model);
    x.sequence.id = sequence.id;
    x.sequence.epoch = sequence.epoch;
    x.sequence.tokens = tokens(from.getTokens());
    x.sequence.prompt_size = from.getPromptSize();
    x.sequence.salt = from.getSalt();
    x.sequence.urgent = from.getUrgent();
    x.sequence.sampling = read(from.getSampling());
    return {};
  });
}

std::string encode(const token_batch& x) {
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<cp::TokenBatch>();
  root.setComputingNs(static_cast<uint64_t>(std::chrono::nanoseconds{x.computing}.count()));
  root.setIsPart(x.is_part);
  auto events = root.initEvents(count(x.events.size()));
  for (unsigned i = 0; i < events.size(); ++i) {
    const auto& from = x.events[i];
    auto to = events[i];
    to.setNumber(from.id.number);
    to.setChoice(from.id.choice);
    to.setEpoch(from.epoch);
    to.setOffset(from.offset);
    to.setToken(from.token);
    to.setFinish(from.finish == engine::finish_reason::stop     ? cp::FinishReason::STOP
                 : from.finish == engine::finish_reason::length ? cp::FinishReason::LENGTH
                                                                : cp::FinishReason::NONE);
    to.setLogprob(from.logprob);
    to.setReused(from.reused);
    to.setPreempted(from.preempted);
    auto top = to.initTop(count(from.top.size()));
    for (unsigned j = 0; j < top.size(); ++j) {
      top[j].setToken(from.top[j].token);
      top[j].setLogprob(from.top[j].logprob);
    }
  }
  return cp::to_bytes(message);
}

caf::error decode(std::string_view bytes, token_batch& x) {
  return cp::from_bytes<cp::TokenBatch>(bytes, "a token batch", [&](auto from) -> caf::error {
    x.events.clear();
    // No step takes hours; a larger number would overflow sums.
    constexpr auto most = std::chrono::nanoseconds{std::chrono::hours{24}};
    x.computing = std::chrono::nanoseconds{
        std::min<uint64_t>(from.getComputingNs(), static_cast<uint64_t>(most.count()))};
    x.is_part = from.getIsPart();
    for (const auto& event : from.getEvents()) {
      if (auto why = read(event, x.events.emplace_back()))
        return why;
    }
    return {};
  });
}

std::string encode(const sequence_loss& x) {
  capnp::MallocMessageBuilder message;
  auto to = message.initRoot<cp::SequenceLoss>();
  write(to.initSequence(), x.sequence);
  to.setKind(x.kind == loss_kind::retry     ? cp::LossKind::RETRY
             : x.kind == loss_kind::invalid ? cp::LossKind::INVALID
                                            : cp::LossKind::INTERNAL);
  to.setMessage(view(x.message));
  return cp::to_bytes(message);
}

caf::error decode(std::string_view bytes, sequence_loss& x) {
  return cp::from_bytes<cp::SequenceLoss>(bytes, "a sequence loss", [&](auto from) -> caf::error {
    x.sequence = read(from.getSequence());
    switch (from.getKind()) {
    case cp::LossKind::RETRY:
      x.kind = loss_kind::retry;
      break;
    case cp::LossKind::INVALID:
      x.kind = loss_kind::invalid;
      break;
    case cp::LossKind::INTERNAL:
      x.kind = loss_kind::internal;
      break;
    default:
      return bad_value("a loss's kind");
    }
    x.message = text(from.getMessage());
    return {};
  });
}

std::string encode(const worker_hello& x) {
  capnp::MallocMessageBuilder message;
  auto to = message.initRoot<cp::WorkerHello>();
  to.setProtocol(x.protocol);
  to.setNode(view(x.node));
  to.setDevice(view(x.device));
  to.setLimitBytes(x.limit_bytes);
  auto residents = to.initResidents(count(x.residents.size()));
  for (unsigned i = 0; i < residents.size(); ++i)
    write(residents[i], x.residents[i]);
  to.setDataAddress(view(x.data_address));
  to.setKvMemoryBytes(x.kv_memory_bytes);
  return cp::to_bytes(message);
}

caf::error decode(std::string_view bytes, worker_hello& x) {
  return cp::from_bytes<cp::WorkerHello>(bytes, "a worker's hello", [&](auto from) -> caf::error {
    x.protocol = from.getProtocol();
    x.node = text(from.getNode());
    x.device = text(from.getDevice());
    x.limit_bytes = from.getLimitBytes();
    x.kv_memory_bytes = from.getKvMemoryBytes();
    x.data_address = text(from.getDataAddress());
    x.residents.clear();
    for (const auto& resident : from.getResidents())
      x.residents.push_back(read(resident));
    return {};
  });
}

std::string encode(const worker_report& x) {
  capnp::MallocMessageBuilder message;
  auto to = message.initRoot<cp::WorkerReport>();
  auto residents = to.initResidents(count(x.residents.size()));
  for (unsigned i = 0; i < residents.size(); ++i)
    write(residents[i], x.residents[i]);
  auto retired = to.initRetired(count(x.retired.size()));
  for (unsigned i = 0; i < retired.size(); ++i)
    write(retired[i], x.retired[i]);
  to.setLeaving(x.leaving);
  auto served = to.initServed(count(x.served.size()));
  for (unsigned i = 0; i < served.size(); ++i) {
    write(served[i].initSequence(), x.served[i].sequence);
    served[i].setTokens(x.served[i].tokens);
    served[i].setReused(x.served[i].reused);
  }
  return cp::to_bytes(message);
}

caf::error decode(std::string_view bytes, worker_report& x) {
  return cp::from_bytes<cp::WorkerReport>(bytes, "a worker's report", [&](auto from) -> caf::error {
    x.residents.clear();
    x.retired.clear();
    for (const auto& resident : from.getResidents())
      x.residents.push_back(read(resident));
    for (const auto& retired : from.getRetired())
      x.retired.push_back(read(retired));
    x.leaving = from.getLeaving();
    x.served.clear();
    for (const auto& served : from.getServed())
      x.served.push_back({read(served.getSequence()), served.getTokens(), served.getReused()});
    return {};
  });
}

/// A day: what is longer would overflow, and is a mistake.
constexpr uint64_t step_target_us_max = 86'400'000'000;

std::string encode(const load_order& x) {
  capnp::MallocMessageBuilder message;
  auto to = message.initRoot<cp::LoadOrder>();
  to.setModel(view(x.model.text));
  to.setDir(view(x.dir));
  to.setOrigin(view(x.origin));
  to.setDraftDir(view(x.draft_dir));
  to.setWeightBytes(x.weight_bytes);
  to.setKvBytes(x.options.kv_bytes);
  to.setBlockSize(x.options.block_size);
  to.setSequencesMax(x.options.sequences_max);
  to.setStepTokensMax(x.options.step_tokens_max);
  to.setContextMax(x.options.context_max);
  to.setWaitingMax(x.options.waiting_max);
  to.setReusePrefixes(x.options.reuse_prefixes);
  to.setDraftTokensMax(x.options.draft_tokens_max);
  to.setQuantize(static_cast<uint8_t>(x.options.quantize));
  to.setStepTargetUs(static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(x.options.step_target).count()));
  to.setSwapBytes(x.options.swap_bytes);
  to.setKvType(x.options.kv_type ? static_cast<uint8_t>(*x.options.kv_type) + 1 : 0);
  write(to.initHolders(count(x.holders.size())), x.holders);
  write(to.initTogether(count(x.together.size())), x.together);
  to.setPlace(x.place);
  return cp::to_bytes(message);
}

caf::error decode(std::string_view bytes, load_order& x) {
  return cp::from_bytes<cp::LoadOrder>(bytes, "a load order", [&](auto from) -> caf::error {
    x.model.text = text(from.getModel());
    x.dir = text(from.getDir());
    x.origin = text(from.getOrigin());
    x.draft_dir = text(from.getDraftDir());
    x.weight_bytes = from.getWeightBytes();
    x.options.kv_bytes = from.getKvBytes();
    x.options.block_size = from.getBlockSize();
    x.options.sequences_max = from.getSequencesMax();
    x.options.step_tokens_max = from.getStepTokensMax();
    x.options.context_max = from.getContextMax();
    x.options.waiting_max = from.getWaitingMax();
    x.options.reuse_prefixes = from.getReusePrefixes();
    x.options.draft_tokens_max = from.getDraftTokensMax();
    if (from.getStepTargetUs() > step_target_us_max)
      return bad_value("a load order's stepTargetUs");
    x.options.step_target = std::chrono::microseconds{static_cast<int64_t>(from.getStepTargetUs())};
    x.options.swap_bytes = from.getSwapBytes();
    if (from.getQuantize() > static_cast<uint8_t>(engine::quantization::int4))
      return bad_value("a load order's quantize");
    x.options.quantize = static_cast<engine::quantization>(from.getQuantize());
    x.options.kv_type.reset();
    if (const auto type = from.getKvType(); type > static_cast<uint8_t>(dtype::f8_e5m2) + 1)
      return bad_value("a load order's kvType");
    else if (type != 0)
      x.options.kv_type = static_cast<dtype>(type - 1);
    x.holders = read(from.getHolders());
    x.together = read(from.getTogether());
    x.place = from.getPlace();
    return {};
  });
}

std::string encode(const model_ref& x) {
  capnp::MallocMessageBuilder message;
  message.initRoot<cp::ModelRef>().setModel(view(x.model.text));
  return cp::to_bytes(message);
}

caf::error decode(std::string_view bytes, model_ref& x) {
  return cp::from_bytes<cp::ModelRef>(bytes, "a model reference", [&](auto from) -> caf::error {
    x.model.text = text(from.getModel());
    return {};
  });
}

std::string encode(const load_progress& x) {
  capnp::MallocMessageBuilder message;
  auto to = message.initRoot<cp::LoadProgress>();
  to.setModel(view(x.model.text));
  to.setPhase(view(x.phase));
  to.setDoneBytes(x.done_bytes);
  to.setTotalBytes(x.total_bytes);
  return cp::to_bytes(message);
}

caf::error decode(std::string_view bytes, load_progress& x) {
  return cp::from_bytes<cp::LoadProgress>(bytes, "a load's progress", [&](auto from) -> caf::error {
    x = {{text(from.getModel())}, text(from.getPhase()), from.getDoneBytes(), from.getTotalBytes()};
    return {};
  });
}

std::string encode(const load_outcome& x) {
  capnp::MallocMessageBuilder message;
  auto to = message.initRoot<cp::LoadOutcome>();
  write(to.initResidence(), x.residence);
  to.setSeconds(x.seconds);
  to.setLoadedBytes(x.loaded_bytes);
  to.setError(view(x.error));
  to.setFilesBroken(x.files_broken);
  to.setEarly(x.early);
  return cp::to_bytes(message);
}

caf::error decode(std::string_view bytes, load_outcome& x) {
  return cp::from_bytes<cp::LoadOutcome>(bytes, "a load's outcome", [&](auto from) -> caf::error {
    x.residence = read(from.getResidence());
    x.seconds = from.getSeconds();
    x.loaded_bytes = from.getLoadedBytes();
    x.error = text(from.getError());
    x.files_broken = from.getFilesBroken();
    x.early = from.getEarly();
    return {};
  });
}

std::string encode(const actor_list& x) {
  capnp::MallocMessageBuilder message;
  auto list = message.initRoot<cp::ActorList>().initActors(count(x.actors.size()));
  for (unsigned i = 0; i < list.size(); ++i) {
    const auto& from = x.actors[i];
    auto to = list[i];
    to.setId(from.id);
    to.setName(view(from.name));
    to.setType(view(from.type));
    to.setNode(view(from.node));
    to.setParent(from.parent);
    to.setState(view(from.state));
    to.setMessages(from.messages);
    to.setRestarts(from.restarts);
    to.setAgeSeconds(from.age_seconds);
    to.setDetail(view(from.detail));
  }
  return cp::to_bytes(message);
}

caf::error decode(std::string_view bytes, actor_list& x) {
  return cp::from_bytes<cp::ActorList>(bytes, "an actor list", [&](auto from) -> caf::error {
    x.actors.clear();
    for (const auto& a : from.getActors())
      x.actors.push_back({a.getId(), text(a.getName()), text(a.getType()), text(a.getNode()),
                          a.getParent(), text(a.getState()), a.getMessages(), a.getRestarts(),
                          a.getAgeSeconds(), text(a.getDetail())});
    return {};
  });
}

} // namespace troupe::actors::wire

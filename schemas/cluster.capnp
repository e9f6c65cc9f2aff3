@0xb3c9a1f27d5e4086;
# What nodes of one cluster say to each other. Append fields only: neighbouring versions talk.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("troupe::schemas");

struct SequenceRef {
  number @0 :UInt64;
  choice @1 :UInt32;
  epoch @2 :UInt32;
  model @3 :Text;
}

struct LogitBias {
  token @0 :Int32;
  bias @1 :Float32;
}

struct Sampling {
  temperature @0 :Float32 = 1.0;
  topP @1 :Float32 = 1.0;
  topK @2 :Int32;
  minP @3 :Float32;
  presencePenalty @4 :Float32;
  frequencyPenalty @5 :Float32;
  repetitionPenalty @6 :Float32 = 1.0;
  logitBias @7 :List(LogitBias);
  seed @8 :UInt64;
  topLogprobs @9 :Int32 = -1;
  maxTokens @10 :UInt32;
  minTokens @11 :UInt32;
  ignoreEos @12 :Bool;
  stopTokenIds @13 :List(Int32);
}

# Head -> worker: run or resume a sequence.
struct RunOrder {
  sequence @0 :SequenceRef;
  tokens @1 :List(Int32);
  promptSize @2 :UInt32;
  sampling @3 :Sampling;
  salt @4 :UInt64; # only equal salts share computed prefixes
  urgent @5 :Bool; # its prompt goes before others'
}

enum FinishReason {
  none @0;
  stop @1;
  length @2;
}

struct Alternative {
  token @0 :Int32;
  logprob @1 :Float32;
}

struct TokenEvent {
  number @0 :UInt64;
  choice @1 :UInt32;
  epoch @2 :UInt32;
  offset @3 :UInt32;
  token @4 :Int32;
  finish @5 :FinishReason;
  logprob @6 :Float32;
  top @7 :List(Alternative);
  reused @8 :UInt32; # prompt tokens that did not have to be computed
  preempted @9 :UInt32; # times that the sequence had to make room since its last token
}

# Worker -> invocation: the tokens of one step.
struct TokenBatch {
  events @0 :List(TokenEvent);
  computingNs @1 :UInt64; # since the first step of a sequence that gets its first token; 0 = none
  isPart @2 :Bool; # that step had run some layers before, and waited for weights
}

enum LossKind {
  retry @0;    # not the request's fault: run it elsewhere
  invalid @1;  # can never run
  internal @2; # the engine failed
}

# Worker -> invocation: a sequence will get no more tokens from here.
struct SequenceLoss {
  sequence @0 :SequenceRef;
  kind @1 :LossKind;
  message @2 :Text;
}

struct Residence {
  model @0 :Text;
  weightsBytes @1 :UInt64;
  room @2 :UInt32;
  running @3 :UInt32;  # sequences held, waiting ones included
  kvUsage @4 :Float64;
  contextLength @5 :UInt32;
  work @6 :EngineWork;
  kvBytes @7 :UInt64;        # borrowed
  workspaceBytes @8 :UInt64; # that it needs of the one of all models there
}

# What an engine has done since the last report.
struct EngineWork {
  steps @0 :UInt64;
  rows @1 :UInt64;
  guesses @2 :UInt64;
  rightGuesses @3 :UInt64;
  recomputed @4 :UInt64;
  swapped @5 :UInt64;
  swapBytes @6 :UInt64; # in use now
}

# Worker -> scheduler: here I am.
struct WorkerHello {
  protocol @0 :UInt32;
  node @1 :Text;
  device @2 :Text;
  limitBytes @3 :UInt64;
  residents @4 :List(Residence);
  dataAddress @5 :Text; # where other nodes get weights from it; empty = nowhere
  kvMemoryBytes @6 :UInt64; # what its models borrow from
}

# Tokens that a sequence has made since the last report.
struct Served {
  sequence @0 :SequenceRef;
  tokens @1 :UInt32;
  reused @2 :UInt32; # prompt tokens that did not have to be computed
}

# Worker -> scheduler: what has changed.
struct WorkerReport {
  residents @0 :List(Residence);
  retired @1 :List(SequenceRef);
  leaving @2 :Bool;
  served @3 :List(Served);
}

# Scheduler -> worker.
struct LoadOrder {
  model @0 :Text;
  dir @1 :Text;
  kvBytes @2 :UInt64;
  blockSize @3 :UInt32;
  sequencesMax @4 :UInt32;
  stepTokensMax @5 :UInt32;
  contextMax @6 :UInt32;
  kvType @7 :UInt8; # 0 = the worker's choice, otherwise one more than the element type's number
  waitingMax @8 :UInt32 = 1024;
  reusePrefixes @9 :Bool = true;
  quantize @10 :UInt8; # 0 none, 1 int8, 2 int4
  draftTokensMax @11 :UInt32 = 8;
  stepTargetUs @12 :UInt64; # 0 = twice what decoding alone takes
  swapBytes @13 :UInt64 = 67108864;
  origin @14 :Text; # where the worker fetches the model from; dir is then empty
  draftDir @15 :Text; # of the model that guesses for it; empty = none
  weightBytes @16 :UInt64; # 0 = the head does not know
  holders @17 :List(Text); # data addresses of nodes that have it; ":PORT" is the head's
  together @18 :List(Text); # those of the workers that load it at the same time, or do so already
  place @19 :UInt32; # of this worker among them, counted from 1; 0 = not there
}

# Scheduler -> worker, and worker -> scheduler once it is done.
struct ModelRef {
  model @0 :Text;
}

struct LoadProgress {
  model @0 :Text;
  phase @1 :Text;
  doneBytes @2 :UInt64;
  totalBytes @3 :UInt64;
}

# Worker -> scheduler: how a load ended.
struct LoadOutcome {
  residence @0 :Residence;
  seconds @1 :Float64;
  loadedBytes @2 :UInt64;
  error @3 :Text;        # empty = it is ready
  filesBroken @4 :Bool;  # trying again cannot help until somebody mends the files
  early @5 :Bool;        # takes requests already; another outcome follows when all weights are there
}

# Worker -> scheduler: what a load would take now, or what one took. Bytes by where they come from.
struct LoadAccount {
  model @0 :Text;
  remoteBytes @1 :UInt64;
  diskBytes @2 :UInt64;
  poolBytes @3 :UInt64;
  pagedBytes @4 :UInt64;  # from the disk through the page cache
  cachedBytes @5 :UInt64; # from the page cache
  queued @6 :Float64;     # seconds, like all that follow
  fetch @7 :Float64;
  read @8 :Float64;
  bytes @9 :Float64;
  bind @10 :Float64;
  total @11 :Float64;
  source @12 :Text; # which link the remote bytes come over
  deviceBytes @13 :UInt64; # from another device of the machine
}

struct ActorInfo {
  id @0 :UInt64;
  name @1 :Text;
  type @2 :Text;
  node @3 :Text;
  parent @4 :UInt64;
  state @5 :Text;
  messages @6 :UInt64;
  restarts @7 :UInt64;
  ageSeconds @8 :Float64;
  detail @9 :Text;
}

struct ActorList {
  actors @0 :List(ActorInfo);
}

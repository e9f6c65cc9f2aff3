#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/request.hpp"
#include "actors/request_record.hpp"
#include "actors/services.hpp"

namespace troupe::actors::testing {

/// Keeps everything that a request was told.
struct recorder final : reply_sink {
  std::optional<uint32_t> accepted;
  std::vector<load_progress> progress;
  std::map<uint32_t, std::string> text;
  std::map<uint32_t, std::vector<piece_logprob>> logprobs;
  std::map<uint32_t, engine::finish_reason> finished;
  std::optional<usage> used;
  std::optional<request_timing> timing;
  std::optional<failure> failed;
  std::vector<policies::quota_kind> watched;
  size_t calls_after_end = 0;
  bool ended() const { return used || failed; }

  void on_accepted(uint32_t prompt_tokens) override;
  void on_progress(const load_progress& x) override;
  void on_watched(policies::quota_kind limit) override { watched.push_back(limit); }
  void on_text(text_piece piece) override;
  void on_finish(uint32_t choice, engine::finish_reason reason) override;
  void on_done(const usage& x, const request_timing& y) override;
  void on_failure(const failure& why) override;

private:
  void note() { calls_after_end += ended(); }
};

struct cluster_options {
  std::map<std::string, uint64_t> models{{"a", 60}, {"b", 60}}; ///< -> bytes
  uint32_t queue_max = 100;
  uint32_t sequences_max = 8;
  std::chrono::milliseconds keep_alive{60'000};
  std::chrono::milliseconds load_time{300};
  std::vector<std::string> pinned{};
  std::set<std::string> arriving{}; ///< opened while their weights are on their way from elsewhere
};

/// What a model of the fixture answers: tokens are characters, and each depends on everything
/// before it and on the seed, as with a real model.
std::string expected_text(const std::string& prompt, uint64_t seed, uint32_t tokens);

/// The real scheduler, gateway, invocations, model actors and workers on one thread under virtual
/// time; engines, files and tokenizers are fakes. Nothing moves until told to.
class cluster {
public:
  explicit cluster(cluster_options options = {});
  ~cluster();

  size_t add_worker(uint64_t limit_bytes = 100);
  void kill_worker(size_t index);
  void drain_worker(size_t index);
  /// Its connection breaks and it joins anew before the head has seen that.
  void rejoin_worker(size_t index);
  size_t workers() const; ///< ever added

  /// Starts a request; its number is the index for `cancel`.
  std::shared_ptr<recorder> submit(invocation_request request);
  void cancel(size_t index);
  void crash_invocation(size_t index);
  void shut_gateway();
  /// Tokens as a worker would send them that does not know that it was given up.
  void forge_tokens(size_t index, uint32_t epoch, uint32_t offset, const std::string& tokens);
  bool drained();
  size_t running_invocations();
  /// The newest request of that id, as its record has it.
  std::optional<request_record> record(const std::string& id) const;

  void load(const std::string& model, std::optional<bool> pin);
  void unload(const std::string& model);
  model_status status(const std::string& model);
  /// What the last load or unload was answered.
  std::optional<caf::expected<model_status>> answer;

  /// The next loads of this model fail; an empty text mends it.
  void break_model(const std::string& model, const std::string& why, bool files_broken = false);
  void break_tokenizer(const std::string& why);
  /// The next step of this model's engines fails.
  void break_engine(const std::string& model);
  /// The device fails under it instead.
  void lose_device(const std::string& model);
  /// Engines of this model give no tokens: `run` needs a limit then, as they never finish.
  void silence_engine(const std::string& model, bool silent = true);
  /// Steps of this model's engines wait for weights from now on, or do so no more.
  void hold_engine(const std::string& model, std::optional<engine::held_step> at);

  /// What this model's engines say of their weights from now on, told by the newest of them.
  void weights_of(const std::string& model, engine::weight_state state);
  /// Whether another device copies those weights; the newest engine tells when none does any more.
  void lend(const std::string& model, bool lent);
  /// The device that has those weights has them no more when the next engine is to be made.
  void lose_twin(const std::string& model);

  /// Handles up to `count` messages; returns how many there were.
  size_t run(size_t count = SIZE_MAX);
  /// Handles one message of an actor picked by `pick(number of actors that have one)`.
  bool run_any(const std::function<size_t(size_t)>& pick);
  /// Handles everything, lets time pass, and handles everything again.
  void advance(std::chrono::milliseconds time);
  /// Only lets time pass.
  void advance_clock(std::chrono::milliseconds time);

  size_t tokens_computed() const; ///< by all engines
  size_t sequences_held() const;  ///< by all engines
  size_t tokenizers_read() const;
  size_t loads_begun() const; ///< by all workers
  std::vector<actor_info> actors();

private:
  struct state;
  std::unique_ptr<state> state_;
};

/// A request for `tokens` tokens.
invocation_request make_request(const std::string& model, const std::string& prompt,
                                uint32_t tokens, uint64_t seed = 1);

} // namespace troupe::actors::testing

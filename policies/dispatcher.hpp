#pragma once
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.hpp"
#include "base/instant.hpp"
#include "policies/arrivals.hpp"
#include "policies/fair_order.hpp"
#include "policies/placement.hpp"
#include "policies/queue_order.hpp"
#include "policies/tenant_holds.hpp"

/// Which sequence runs where, and which models are loaded and unloaded for it.
///
/// A model on a worker:
///
///   reserved --room is there--> loading --loaded--> ready --decided to go--> leaving --gone-->
///   (none)
///                                  |                  ^
///                                  `-----> coming ----'
///
/// and to (none) from each of them if its worker is lost, from loading and coming if the load
/// fails. A coming model takes requests while its weights are on their way: its bytes are as good
/// as taken, it never makes room for others, and it leaves only if somebody asks for that.
namespace troupe::policies {

/// A keep-alive that follows from how often a model is used and what its reload takes.
inline constexpr duration auto_keep_alive = -std::chrono::hours{876'000};

struct dispatcher_config {
  uint32_t queue_max = 1024; ///< waiting sequences per model; resumed ones do not count
  duration keep_alive = std::chrono::minutes{5}; ///< negative = for ever, or `auto_keep_alive`
  /// What `auto_keep_alive` gives for holding a GB for a second, in seconds of waiting.
  double price_of_memory = 1 / 3600.0;
  /// Whether models that are likely to be asked for soon are brought nearer.
  bool prefetch = false;
  /// How long a waiting sequence is patient before busy models must make room for its model.
  duration patience = std::chrono::seconds{1};
  /// How long a model may stay once loaded before it has to make room while busy.
  duration stay_min = std::chrono::seconds{2};
  /// How long a request waits for a first worker to join.
  duration worker_grace = std::chrono::seconds{30};
  /// How long a failed load is not tried again; doubles with every failure in a row.
  duration load_pause_first = std::chrono::seconds{1};
  duration load_pause_max = std::chrono::minutes{1};
  /// Whose turn it is: prices of tokens. A prompt that was computed before costs a tenth.
  vtc_config fair{.cost = {.input = 1, .cached = 0.1, .output = 2}};
  /// What a tenant was served for one model counts for the others as well, up to this debt: what it
  /// took while nobody else wanted it must not shut it out there.
  double debt_elsewhere_max = 65536;
  /// Of so many places for sequences one is kept, as soon as several tenants use a model, for those
  /// that run less than that: who comes back need not wait for the texts of others to end. 0 =
  /// none.
  uint32_t places_per_kept = 8;
  /// Then, too, a tenant gets no further place while prompts of this many tokens or more of its own
  /// are still being computed: engines take them in the order in which they come, and who comes
  /// back would stand behind all of them.
  uint64_t prompt_tokens_ahead = 64;
};

struct served_model {
  model_id id;
  std::optional<duration> keep_alive; ///< unset = the node's
  bool pinned = false;
  /// Copies that are loaded when it is, on workers that have room for it without another going.
  uint32_t replicas = 1;
};

enum class refusal_reason : uint8_t {
  queue_full,
  no_worker,
  too_large,
  load_failed,
  files_broken,
  tenant_cap
};
struct refusal {
  refusal_reason reason = refusal_reason::queue_full;
  std::string message;
  duration retry_after{0};
  quota_kind cap{}; ///< of a tenant_cap; with a retry_after of 0 waiting does not help
};

// What the scheduler has to do.
struct dispatch_intent {
  waiting_sequence sequence;
  model_id model;
  worker_id worker = 0;
  /// Its prompt goes before all others there: its tenant has next to nothing running, while another
  /// runs more than twice what is kept for those who come back.
  bool urgent = false;
};
struct load_intent {
  model_id model;
  worker_id worker = 0;
};
enum class unload_reason : uint8_t { keep_alive, make_room, asked, tenant_cap };
struct unload_intent {
  model_id model;
  worker_id worker = 0;
  unload_reason reason = unload_reason::make_room;
};
struct refuse_intent {
  sequence_id id;
  uint32_t epoch = 0;
  model_id model;
  refusal why;
};
/// A model that was wanted without a sequence (preload, pin, an operator) cannot be had.
struct give_up_intent {
  model_id model;
  refusal why;
};
/// A request was let in although its tenant is over a cap, which is only watched.
struct watched_intent {
  sequence_id id;
  uint32_t epoch = 0;
  model_id model;
  refusal why;
};
/// The weights of a model should come nearer, if there is room for what is asked for so often a
/// second.
struct prefetch_intent {
  model_id model;
  worker_id worker = 0;
  double use_rate = 0;
};
using intent = std::variant<dispatch_intent, load_intent, unload_intent, refuse_intent,
                            give_up_intent, watched_intent, prefetch_intent>;

enum class residence : uint8_t { reserved, loading, coming, ready, leaving };

/// A model on a worker as the dispatcher sees it.
struct resident {
  residence state = residence::reserved;
  footprint takes;
  uint32_t room = 0;                        ///< sequences it said it could start
  uint32_t known = 0;                       ///< sequences it held when it said so
  std::map<sequence_id, uint32_t> assigned; ///< -> epoch
  instant ready_since{};
  instant last_used{};
  duration keep_alive{0};
  bool used = false;      ///< since it was loaded
  bool dismissed = false; ///< somebody asked for it to go
  /// Places that are free, those counted that are on their way.
  uint32_t places() const;
  bool idle() const { return assigned.empty() && known == 0; }
  bool takes_requests() const { return state == residence::coming || state == residence::ready; }
};

/// A sequence that runs on a worker, or is on its way there.
struct handed_sequence {
  model_id model;
  sequence_id id;
  uint32_t epoch = 0;
};

struct model_view {
  size_t queued = 0;
  size_t running = 0;
  bool pinned = false;
  const resident* best = nullptr; ///< the resident furthest on its way, or null
  worker_id worker = 0;
  std::optional<instant> unload_at;
  std::string error; ///< of the last load, if it failed
};

/// How often `prefetch` looks who is likely to be asked for, and how far ahead.
inline constexpr duration look_pause = std::chrono::seconds{60};
inline constexpr duration look_horizon = std::chrono::minutes{5};

/// All of it as arithmetic: events go in, `decide` says what follows. `now` never goes backwards.
class dispatcher {
public:
  explicit dispatcher(dispatcher_config config = {}) : config_{config} {}

  void add_model(served_model model);
  /// True while there are places that those whose turn it is may not take: charges may change that.
  bool holds_back() const { return holds_back_; }
  bool knows(const model_id& model) const { return models_.contains(model); }

  void worker_joined(worker_id worker, std::string name, uint64_t limit_bytes);
  /// A worker that comes back still holds this model.
  void worker_holds(worker_id worker, const model_id& model, const footprint& takes, uint32_t room,
                    instant now);
  /// Hands it nothing more; what runs there may finish.
  void worker_leaving(worker_id worker);
  /// Everything there is gone. Its sequences are enqueued again by their owners.
  void worker_lost(worker_id worker, instant now);
  size_t workers() const { return workers_.size(); }

  /// Sequences of one request, all or none. `takes` is what the model would take, 0 = unknown,
  /// `caps` what its tenant may.
  std::optional<refusal> enqueue(const model_id& model,
                                 const std::vector<waiting_sequence>& sequences,
                                 const footprint& takes, std::optional<duration> keep_alive,
                                 instant now, const tenant_caps& caps = {});
  /// Its owner no longer wants it, wherever it is.
  void withdraw(const model_id& model, sequence_id id, instant now);
  void retired(worker_id worker, const model_id& model, sequence_id id, uint32_t epoch,
               instant now);
  /// A sequence has made tokens; `reused` of its prompt's tokens did not have to be computed.
  void charge(worker_id worker, const model_id& model, sequence_id id, uint32_t epoch,
              uint32_t tokens, uint32_t reused);
  void room(worker_id worker, const model_id& model, uint32_t room, uint32_t known, instant now);

  // A worker that comes back may end loads that were asked for before it was lost: what it has then
  // counts as any other copy.
  /// It takes requests while its weights come; `loaded` or `load_failed` follows.
  void takes_requests(worker_id worker, const model_id& model, const footprint& takes,
                      uint32_t room, instant now);
  /// All of its weights are there; `known` sequences run already.
  void loaded(worker_id worker, const model_id& model, const footprint& takes, uint32_t room,
              instant now, uint32_t known = 0);
  /// Those that wait for it are refused, and those that were handed to it while it came.
  void load_failed(worker_id worker, const model_id& model, std::string why, bool files_broken,
                   instant now);
  void unloaded(worker_id worker, const model_id& model, instant now);

  /// What a load on a worker would take now, without others that are under way there.
  void note_load_cost(worker_id worker, const model_id& model, double seconds);

  /// Loads a model without a request. `pin` changes whether it may be evicted.
  void want(const model_id& model, const footprint& takes, std::optional<bool> pin, instant now);
  /// Gets rid of a model once its running sequences have finished; unpins it.
  void dismiss(const model_id& model);

  /// What is to be done now. Assumes that all of it is carried out.
  std::vector<intent> decide(instant now);
  /// When `decide` should be called again if nothing happens until then.
  std::optional<instant> next_wakeup(instant now) const;

  model_view view(const model_id& model) const;
  /// Where copies of a model are in that state.
  std::vector<worker_id> copies(const model_id& model, residence state) const;
  /// Tenants that wait for a model: how far their services have drifted apart.
  std::vector<pair_drift> drifts(const model_id& model) const;
  /// Those that wait for a model, in their order.
  std::vector<waiting_sequence> waiting(const model_id& model) const;
  /// As `fair_order::ahead_of`.
  size_t ahead_of(const model_id& model, const fair_share& tenant, size_t count) const;
  /// The sequence waits, or runs somewhere as far as is known here.
  bool holds(const model_id& model, sequence_id id) const;
  /// What a worker was given and has not given back.
  std::vector<handed_sequence> handed_to(worker_id worker) const;
  /// True while no copy has all of its weights: requests have to wait for a load.
  bool cold(const model_id& model) const;
  /// True while some copy takes requests before all of its weights are there.
  bool coming(const model_id& model) const;

private:
  struct model_state {
    served_model spec;
    fair_order queue;
    footprint takes;
    std::set<worker_id> at;
    bool wanted = false;
    instant wanted_since{};
    std::optional<duration> keep_alive; ///< of the last request
    std::string error;
    bool files_broken = false;
    uint32_t failures = 0;
    instant retry_at{};
    bool is_prefetched = false; ///< since it was asked for last
  };
  struct worker_state {
    std::string name;
    uint64_t limit_bytes = 0;
    bool leaving = false;
    std::map<model_id, resident> residents;
    std::map<model_id, double> load_seconds; ///< of those that were looked at
    footprint used() const;
  };

  void share_services(model_state& from);
  resident* find(worker_id worker, const model_id& model);
  resident* find_or_adopt(worker_id worker, const model_id& model, const footprint& takes,
                          uint32_t room, instant now);
  void let_in(resident& x, model_state& model, const footprint& takes, uint32_t room, instant now);
  duration keep_alive_of(const model_state& model) const;
  std::optional<instant> overdue_at(const model_state& model, const resident& x) const;
  void drop(worker_id worker, const model_id& model, instant now);
  std::optional<refusal> ask_tenant(const model_state& model, const waiting_sequence& first,
                                    size_t count, const tenant_caps& caps, instant now);
  void let_go(const model_id& model);
  bool may_take(const model_state& model, const resident& from, const fair_share& tenant,
                instant now) const;
  bool is_urgent(const model_state& model, const resident& at, const fair_share& tenant) const;
  instant held_until(const model_state& model, instant now) const;
  void note_arrival(model_state& model, instant now);
  void look_ahead(instant now, std::vector<intent>& out);
  bool may_be_prefetched(const model_state& model) const;
  double load_seconds(const worker_state& worker, const model_id& model) const;
  double reload_seconds(const model_state& model) const;
  double queue_seconds(const worker_state& worker) const;
  std::vector<worker_space> spaces(instant now, const model_id* coming = nullptr) const;
  bool needs_place(const model_state& model) const;
  bool wants_copy(const model_state& model, instant now) const;
  void place_copies(instant now);
  std::vector<model_state*> models_without_place();

  std::set<std::pair<worker_id, model_id>> closed(instant now);
  void hand_out(const std::set<std::pair<worker_id, model_id>>& closed, instant now,
                std::vector<intent>& out);
  void send_away(worker_id worker, const model_id& model, unload_reason why,
                 std::vector<intent>& out);
  void find_places(instant now, std::vector<intent>& out);
  void cancel_reservations(worker_state& worker, worker_id id);
  void refuse_all(model_state& model, const refusal& why, instant now, std::vector<intent>& out);
  void refuse_hopeless(instant now, std::vector<intent>& out);
  void start_loads(std::vector<intent>& out);
  void unload_idle(instant now, std::vector<intent>& out);

  dispatcher_config config_;
  std::map<model_id, model_state> models_;
  std::set<model_id> active_; ///< with a queue, a place or a wish: the others need no look
  std::map<worker_id, worker_state> workers_;
  tenant_holds holds_;
  arrivals arrivals_;
  std::set<model_id> away_; ///< asked for before, and nowhere now
  instant looked_ahead_{};
  std::optional<instant> workerless_since_{instant{}};
  bool holds_back_ = false;
  bool again_ = false;          ///< a reservation was cancelled: look for a place once more
  std::vector<intent> pending_; ///< refusals that events brought about
};

} // namespace troupe::policies

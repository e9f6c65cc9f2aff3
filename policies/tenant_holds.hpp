#pragma once
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/ids.hpp"
#include "base/instant.hpp"
#include "policies/quota.hpp"

namespace troupe::policies {

/// A tenant is over one of its caps.
struct cap_refusal {
  quota_kind limit = quota_kind::queue;
  std::string message;
  std::optional<duration> retry_after; ///< unset: waiting does not help
};

/// Which tenant keeps which model loaded, and who waits: what tenant_caps are about.
///
/// A tenant holds a model while a request of it waits or runs there, and then for as long as the
/// model's keep-alive would keep it for that request; not longer than the model is loaded. Those
/// who hold a model share its bytes in equal parts: nobody pays for what others keep loaded anyway,
/// and nobody rides for free. Pinned models are the operator's and cost nobody anything.
///
/// A tenant that wants one model more than it may hold lets its own idle ones go, the longest
/// unused first. One that somebody else holds as well stays loaded: the tenant no longer pays for
/// it. Who already holds a model is never refused for room, also when its share has grown because
/// others let go.
///
/// Holds one entry per sequence that waits or runs, per model and tenant that hold each other, and
/// per cold start within the hour.
class tenant_holds {
public:
  struct model_facts {
    uint64_t bytes = 0;
    bool pinned = false;
    bool loading = false; ///< it cannot be let go yet
  };
  using look_up = std::function<model_facts(const model_id&)>;
  struct question {
    uint64_t tenant = 0;
    std::string name; ///< of the tenant, for people
    tenant_caps caps;
    model_id model;
    bool at_once = false; ///< there is a place for it: it will not wait
    bool cold = false;    ///< it is loaded for this request alone
  };
  struct answer {
    std::optional<cap_refusal> over;
    /// Nobody holds these any more. Empty if the request is over a cap.
    std::vector<model_id> released;
  };
  /// Asks for one request, before its sequences begin(). What is granted counts at once.
  answer admit(const question& ask, const look_up& facts, instant now);

  /// A sequence waits for a place; also one that has run before.
  void begin(sequence_id id, uint64_t tenant, const model_id& model, instant now,
             uint32_t prompt_tokens = 0);
  void started(sequence_id id);
  /// Its first token is there: its prompt is computed.
  void answered(sequence_id id);
  /// It neither waits nor runs any more. Its tenant holds the model until `held_until`. Ids that
  /// are not known are ignored.
  void end(sequence_id id, instant now, instant held_until);
  /// No copy of it is left.
  void unloaded(const model_id& model, instant now);

  /// Models that it holds, pinned ones among them.
  size_t held(uint64_t tenant, instant now) const;
  size_t waiting(uint64_t tenant) const;
  /// Tenants that hold it.
  size_t holders(const model_id& model, instant now) const;
  /// Sequences of a tenant that run there.
  size_t running(uint64_t tenant, const model_id& model) const;
  /// Sequences of the tenant that runs most there.
  size_t most_running(const model_id& model) const;
  /// Tokens of the prompts of those that run and are not answered yet.
  uint64_t prompt_tokens(uint64_t tenant, const model_id& model) const;
  /// Tenants of which something is remembered.
  size_t remembered() const { return accounts_.size(); }

private:
  struct hold {
    uint32_t active = 0;        ///< sequences
    uint32_t waits = 0;         ///< of those
    uint64_t prompt_tokens = 0; ///< of those that run and are not answered
    instant last_used{};
    instant until{}; ///< when there is none
    bool counts(instant now) const { return active > 0 || now < until; }
  };
  struct waiting_request {
    uint32_t sequences = 0;
    instant since{};
  };
  struct account {
    std::map<model_id, hold> models;
    std::map<uint64_t, waiting_request> waiting; ///< by number: the oldest first
    sliding_window cold_starts{0, std::chrono::hours{1}};
  };
  struct sequence {
    uint64_t tenant = 0;
    model_id model;
    bool waits = true;
    uint32_t prompt_tokens = 0; ///< 0 once it is answered
  };
  struct bill;

  uint64_t share(const model_id& model, uint64_t bytes, uint64_t besides, instant now) const;
  bill make_bill(const question& ask, const look_up& facts, const account& of, instant now) const;
  std::optional<cap_refusal> make_room(const question& ask, const look_up& facts, instant now,
                                       std::vector<model_id>& released) const;
  /// True if nobody else holds it.
  bool release(uint64_t tenant, const model_id& model, instant now);
  void tidy(uint64_t tenant, instant now);
  void stop_waiting(sequence_id id, sequence& of);
  void stop_running(const sequence& of);

  std::map<uint64_t, account> accounts_;
  std::map<sequence_id, sequence> sequences_;
  std::map<model_id, std::set<uint64_t>> holders_; ///< tenants
  /// Tenant -> sequences that run. Those who run none are left out: there are far more of them.
  std::map<model_id, std::map<uint64_t, size_t>> running_;
};

} // namespace troupe::policies

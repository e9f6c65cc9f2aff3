#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/load_book.hpp"
#include "actors/messages.hpp"
#include "actors/model_fetch.hpp"

namespace troupe::storage {
class weight_tiers;
}

namespace troupe::actors {

/// A model on its way into the pool.
class staged_model {
public:
  virtual ~staged_model() = default;
  virtual bool is_over() const = 0;
};

struct stager_setup {
  /// Where the bytes of a model whose files are at `dir` will lie, by tier, once loads have brought
  /// `coming_bytes` of others into the host pool; blocks.
  std::function<std::optional<policies::tier_bytes>(const load_order&, const std::string& dir,
                                                    uint64_t coming_bytes)>
      look;
  /// See model_fetch.hpp.
  model_find find;
  /// Begins to bring a model into the pool that is asked for so often a second; the work ends with
  /// what it returns. Null if there is nothing to do or no room; blocks for a look at the files.
  std::function<std::shared_ptr<staged_model>(const std::string& dir, double rate)> prefetch;
  /// Measures what no load has shown yet, with the files of a model; blocks.
  std::function<void(load_book&, const std::string& dir)> probe;
  std::shared_ptr<load_book> book = std::make_shared<load_book>();
  actor_card_ptr self_card;
};

struct stager_state {
  static inline const char* name = "stager";
  stager_setup setup;
  bool probed = false;
  std::map<model_id, std::shared_ptr<staged_model>> staged;
};

/// Foresees loads, apart from the loader, which blocks while it loads. To be spawned detached.
stager_actor::behavior_type stager(stager_actor::stateful_pointer<stager_state> self,
                                   stager_setup setup);

/// A `stager_setup::probe` that reads a part of the model's weights through `tiers`; they may be
/// null.
std::function<void(load_book&, const std::string& dir)>
make_probe(std::shared_ptr<storage::weight_tiers> tiers);

} // namespace troupe::actors

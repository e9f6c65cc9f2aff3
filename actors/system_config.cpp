#include "actors/system_config.hpp"

#include <algorithm>
#include <thread>

#include <caf/all.hpp>

#include "actors/messages.hpp"

namespace troupe::actors {

system_config::system_config() {
  add_message_types<caf::id_block::troupe_actors>();
  // Idle work-stealing threads poll, which costs CPU, and then sleep for up to 10 ms, which costs
  // latency. One shared queue wakes a thread at once; control messages never saturate it.
  set("scheduler.policy", caf::atom("sharing"));
  set("scheduler.max-threads", std::clamp<size_t>(std::thread::hardware_concurrency(), 2, 8));
  for (const auto category : {caf::atom("actors"), caf::atom("engine"), caf::atom("storage"),
                              caf::atom("gpu"), caf::atom("schemas")})
    add_error_category(category,
                       [](uint8_t code, caf::atom_value name, const caf::message& context) {
                         return caf::to_string(name) + " error " + std::to_string(code) + ": " +
                                caf::to_string(context);
                       });
}

} // namespace troupe::actors

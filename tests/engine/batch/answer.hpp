#pragma once
#include <vector>

#include "tests/engine/model/golden_model.hpp"

namespace troupe::engine::golden {

/// What an engine says to one request, with logprobs where they were asked for.
struct answer {
  std::vector<token_id> tokens;
  std::vector<float> logprobs;
  size_t steps = 0; ///< that it took: not compared
  friend bool operator==(const answer& a, const answer& b) {
    return a.tokens == b.tokens && a.logprobs == b.logprobs;
  }
};

/// Runs the engine until it is idle.
inline answer ask(engine& engine, sequence_request request) {
  answer out;
  EXPECT_FALSE(engine.add(std::move(request)));
  while (!engine.idle()) {
    const auto events = engine.step();
    EXPECT_TRUE(events) << describe(events.error());
    if (!events)
      break;
    ++out.steps;
    for (const auto& event : *events) {
      EXPECT_EQ(event.offset, out.tokens.size());
      out.tokens.push_back(event.token);
      out.logprobs.push_back(event.logprob);
      for (const auto& one : event.top)
        out.logprobs.push_back(one.logprob);
    }
  }
  return out;
}

} // namespace troupe::engine::golden

#pragma once
#include <vector>

#include <gtest/gtest.h>

#include "engine/engine.hpp"

namespace troupe::actors::test {

/// What an engine says first to a short prompt, greedily.
inline std::vector<engine::token_id> first_tokens(engine::engine& one) {
  engine::sequence_request request;
  request.id = {1, 0};
  request.tokens = {1, 5, 9};
  request.prompt_size = 3;
  request.sampling.temperature = 0;
  request.sampling.max_tokens = 8;
  request.sampling.ignore_eos = true;
  EXPECT_FALSE(one.add(std::move(request)));
  std::vector<engine::token_id> out;
  while (!one.idle()) {
    auto events = one.step();
    EXPECT_TRUE(events) << describe(events.error());
    if (!events)
      break;
    for (const auto& event : *events)
      out.push_back(event.token);
  }
  return out;
}

} // namespace troupe::actors::test

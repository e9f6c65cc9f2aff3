#include "actors/generation.hpp"

#include <gtest/gtest.h>

#include "tests/actors/fake_engine.hpp"

namespace troupe::actors {
namespace {

using engine::finish_reason;

struct generation_test : ::testing::Test {
  std::shared_ptr<const text_side> text = testing::make_fake_text();
  static engine::token_event event(uint32_t epoch, uint32_t offset, char token,
                                   finish_reason finish = finish_reason::none) {
    return {{1, 0}, epoch, offset, token, finish, -0.25f, {{token, -0.25f}, {'z', -3.f}}};
  }
};

TEST_F(generation_test, stale_repeated_and_early_tokens_are_dropped) {
  generation x{*text, 0, true, {}, false};
  const auto first = x.reopen();
  EXPECT_TRUE(x.accept(event(first, 0, 'a')));
  EXPECT_FALSE(x.accept(event(first, 0, 'a')));
  EXPECT_FALSE(x.accept(event(first, 2, 'c')));
  const auto second = x.reopen();
  EXPECT_FALSE(x.accept(event(first, 1, 'b')));
  EXPECT_TRUE(x.accept(event(second, 1, 'b')));
  EXPECT_EQ(x.tokens(), (std::vector<engine::token_id>{'a', 'b'}));
}

TEST_F(generation_test, an_end_token_counts_but_has_no_text) {
  generation x{*text, 0, true, {}, true};
  const auto epoch = x.reopen();
  x.accept(event(epoch, 0, 'a'));
  const auto last = x.accept(event(epoch, 1, '$', finish_reason::stop));
  ASSERT_TRUE(last);
  EXPECT_EQ(last->text, "");
  EXPECT_TRUE(last->logprobs.empty());
  EXPECT_EQ(x.finish(), finish_reason::stop);
  EXPECT_EQ(x.tokens().size(), 2u);
}

TEST_F(generation_test, a_stop_string_across_tokens_is_never_sent) {
  generation x{*text, 0, true, {"END"}, false};
  const auto epoch = x.reopen();
  std::string sent;
  uint32_t offset = 0;
  for (const char c : std::string{"abENcEND"})
    sent += x.accept(event(epoch, offset++, c))->text;
  EXPECT_EQ(sent, "abENc");
  EXPECT_EQ(x.finish(), finish_reason::stop);
  EXPECT_FALSE(x.accept(event(epoch, offset, 'x'))) << "nothing counts after it";
}

TEST_F(generation_test, held_back_text_is_sent_when_the_length_ends_it) {
  generation x{*text, 0, true, {"END"}, false};
  const auto epoch = x.reopen();
  EXPECT_EQ(x.accept(event(epoch, 0, 'E'))->text, "");
  EXPECT_EQ(x.accept(event(epoch, 1, 'N', finish_reason::length))->text, "EN");
  EXPECT_EQ(x.finish(), finish_reason::length);
}

TEST_F(generation_test, a_stop_string_that_the_last_token_completes_is_a_stop) {
  generation x{*text, 0, true, {"EN"}, false};
  const auto epoch = x.reopen();
  x.accept(event(epoch, 0, 'E'));
  EXPECT_EQ(x.accept(event(epoch, 1, 'N', finish_reason::length))->text, "");
  EXPECT_EQ(x.finish(), finish_reason::stop);
}

TEST_F(generation_test, logprobs_come_with_the_text_of_their_token) {
  generation x{*text, 3, true, {"bc"}, true};
  const auto epoch = x.reopen();
  auto piece = x.accept(event(epoch, 0, 'a'));
  ASSERT_EQ(piece->logprobs.size(), 1u);
  EXPECT_EQ(piece->choice, 3u);
  EXPECT_EQ(piece->logprobs[0].text, "a");
  EXPECT_EQ(piece->logprobs[0].bytes, "a");
  EXPECT_FLOAT_EQ(piece->logprobs[0].logprob, -0.25f);
  ASSERT_EQ(piece->logprobs[0].top.size(), 2u);
  EXPECT_EQ(piece->logprobs[0].top[1].text, "z");
  piece = x.accept(event(epoch, 1, 'b'));
  EXPECT_TRUE(piece->logprobs.empty()) << "held back with its text";
  piece = x.accept(event(epoch, 2, 'x'));
  EXPECT_EQ(piece->text, "bx");
  EXPECT_EQ(piece->logprobs.size(), 2u);
  x.accept(event(epoch, 3, 'b'));
  piece = x.accept(event(epoch, 4, 'c'));
  EXPECT_EQ(piece->text, "");
  EXPECT_TRUE(piece->logprobs.empty()) << "cut away with its text";
}

} // namespace
} // namespace troupe::actors

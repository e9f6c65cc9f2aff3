#include "cli/command_line.hpp"

#include <CLI/CLI.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/usage_error.hpp"

namespace troupe::cli {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

/// What the words mean, or what is said of them.
struct outcome {
  command_line typed;
  std::string complaint;
};

outcome parse(const std::vector<std::string>& words) {
  outcome out;
  const auto app = make_app(out.typed);
  try {
    app->parse(std::vector<std::string>(words.rbegin(), words.rend())); // from the back
  } catch (const CLI::ParseError& why) {
    out.complaint = usage_error(*app, why);
  }
  return out;
}

TEST(command_line, flags_become_texts_of_settings_in_their_order) {
  const auto out = parse({"serve", "models", "--threads", "4", "--models-dir=a", "--models-dir",
                          "b", "--port", "0", "--no-hub-cache"});
  ASSERT_EQ(out.complaint, "");
  EXPECT_EQ(out.typed.command, "serve");
  EXPECT_EQ(out.typed.serve.models, (std::vector<std::string>{"models"}));
  EXPECT_EQ(out.typed.port, 0);
  EXPECT_TRUE(out.typed.no_hub_cache);
  ASSERT_EQ(out.typed.settings.size(), 2u);
  EXPECT_EQ(out.typed.settings[0].path, "model_dirs");
  EXPECT_EQ(out.typed.settings[0].texts, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(out.typed.settings[1].path, "threads");
}

TEST(command_line, what_is_there_before_is_the_default) {
  command_line typed;
  typed.inspect.url = "http://elsewhere";
  const auto app = make_app(typed);
  app->parse("ps");
  EXPECT_EQ(typed.inspect.url, "http://elsewhere");
  app->parse("models --url here:1");
  EXPECT_EQ(typed.inspect.url, "here:1");
}

TEST(command_line, a_misspelled_word_is_answered_with_the_nearest_one) {
  EXPECT_THAT(parse({"serv"}).complaint, StartsWith("troupe: there is no command 'serv': did you "
                                                    "mean 'serve'?\n"));
  EXPECT_THAT(parse({"actors", "lst"}).complaint, HasSubstr("did you mean 'list'?"));
  EXPECT_THAT(parse({"serve", "--prot", "5"}).complaint,
              StartsWith("troupe serve: there is no option '--prot': did you mean '--port'?\n"));
  EXPECT_THAT(parse({"run", "m", "--max-token=5"}).complaint,
              HasSubstr("no option '--max-token': did you mean '--max-tokens'?"));
  EXPECT_THAT(parse({"frobnicate"}).complaint, StartsWith("troupe: there is no command "
                                                          "'frobnicate'\n"));
}

TEST(command_line, what_is_wrong_is_said_with_its_command_and_the_way_out) {
  EXPECT_EQ(parse({"run"}).complaint,
            "troupe run: model is required\n`troupe run --help` lists what there is\n");
  EXPECT_THAT(parse({"load", "a", "b"}).complaint, StartsWith("troupe load: 'b' is one word too "
                                                              "many\n"));
  EXPECT_THAT(parse({"run", "m", "--temperature", "warm"}).complaint, HasSubstr("--temperature"));
  EXPECT_THAT(parse({"run", "m", "--seed", "x"}).complaint, HasSubstr("--seed cannot be 'x'"));
  EXPECT_THAT(parse({"run", "m", "--max-tokens", "0"}).complaint, HasSubstr("--max-tokens"));
  EXPECT_THAT(parse({"ps", "-o", "xml"}).complaint, HasSubstr("xml"));
  EXPECT_THAT(parse({"ps", "--watch", "0"}).complaint, HasSubstr("0.1 to 86400 seconds"));
}

TEST(command_line, a_group_without_a_command_gives_its_help) {
  EXPECT_THAT(parse({}).complaint, HasSubstr("Serve models over HTTP."));
  EXPECT_THAT(parse({"actors"}).complaint, HasSubstr("Who started whom."));
  EXPECT_THAT(parse({"actors"}).complaint, HasSubstr("Usage: troupe actors"));
}

} // namespace
} // namespace troupe::cli

// Replays what Python's jinja2 rendered (tools/make_chat_template_goldens.py).
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/chat_template/chat_template.hpp"

namespace troupe::engine {
namespace {

using nlohmann::ordered_json;
const std::filesystem::path folder = TROUPE_SOURCE_DIR "/tests/golden/chat_templates";

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

chat_template_options golden_options() {
  setenv("TZ", "UTC", 1); // the goldens were written in UTC
  tzset();
  chat_template_options options;
  options.now = [] { return std::time_t{1722470400}; };
  return options;
}

/// Compares one rendering with a golden result: a text, {"raised": text}, or null for any error.
void expect_same(const std::string& source, const ordered_json& context, const ordered_json& wanted,
                 const std::string& what) {
  const auto compiled = chat_template::compile(source, what, golden_options());
  auto got = compiled ? (*compiled)->render(context) : caf::expected<std::string>{compiled.error()};
  if (wanted.is_string()) {
    ASSERT_TRUE(got) << what << ": " << describe(got.error());
    EXPECT_EQ(*got, wanted.get<std::string>()) << what;
    return;
  }
  ASSERT_FALSE(got) << what << " rendered, and must not: " << *got;
  const bool raised = got.error() == template_errc::raised;
  EXPECT_EQ(raised, wanted.is_object()) << what << ": " << describe(got.error());
  if (raised && wanted.is_object()) {
    EXPECT_EQ(describe(got.error()), wanted["raised"].get<std::string>()) << what;
  }
  EXPECT_NE(got.error(), template_errc::unsupported) << what << ": " << describe(got.error());
  EXPECT_NE(got.error(), template_errc::limit) << what << ": " << describe(got.error());
}

TEST(chat_template_golden, every_conversation_renders_as_in_jinja2) {
  const auto conversations = ordered_json::parse(read_file(folder / "conversations.json"));
  size_t templates = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".jinja")
      continue;
    ++templates;
    const std::string name = entry.path().stem();
    const std::string source = read_file(entry.path());
    const auto expected = ordered_json::parse(read_file(folder / "expected" / (name + ".json")));
    ASSERT_GT(expected.size(), 25u);
    for (const auto& [which, wanted] : expected.items()) {
      const bool add = which.ends_with("+prompt");
      const auto& conversation = conversations.at(which.substr(0, which.rfind("+prompt")));
      ordered_json context = {
          {"tools", nullptr}, {"documents", nullptr}, {"bos_token", "<s>"}, {"eos_token", "</s>"}};
      context.update(conversation.at("variables"));
      context["add_generation_prompt"] = add;
      expect_same(source, context, wanted, name + " with " + which);
    }
  }
  EXPECT_GE(templates, 45u);
}

TEST(chat_template_golden, every_snippet_renders_as_in_jinja2) {
  const auto golden = ordered_json::parse(read_file(folder / "snippets.json"));
  ASSERT_GE(golden.at("cases").size(), 1500u);
  for (const auto& row : golden.at("cases"))
    expect_same(row[0].get<std::string>(), golden.at("context"), row[1], row[0].get<std::string>());
}

} // namespace
} // namespace troupe::engine

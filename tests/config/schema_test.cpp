// The schema, the example and the parser agree, because all of them are checked against the table.
#include <fstream>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "config/keys.hpp"
#include "config/layers.hpp"
#include "config/load.hpp"

namespace troupe::config {
namespace {

using testing::IsEmpty;

std::string contents(const std::string& path) {
  std::ifstream file{std::string{TROUPE_SOURCE_DIR} + "/" + path};
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(schema, in_the_tree_is_the_one_that_the_table_makes) {
  EXPECT_EQ(contents("config/troupe.schema.json"), json_schema())
      << "run: troupe config schema > config/troupe.schema.json";
}

TEST(schema, has_exactly_the_keys_of_the_table) {
  const auto root = nlohmann::json::parse(json_schema());
  std::set<std::string> in_schema, in_table;
  for (const auto& [name, property] : root["properties"].items()) {
    if (!property.contains("properties"))
      in_schema.insert(name);
    else
      for (const auto& [inner, ignored] : property["properties"].items())
        in_schema.insert(name + "." + inner);
  }
  for (const auto* name : {"models", "tenants", "admin_keys"})
    in_schema.erase(name);
  for (const auto& entry : node_keys())
    in_table.insert(std::string{entry.path});
  EXPECT_EQ(in_schema, in_table);
  EXPECT_EQ(root["properties"]["models"]["additionalProperties"]["properties"].size(),
            model_keys().size());
  EXPECT_EQ(root["additionalProperties"], false);
}

TEST(table, defaults_are_values_that_its_own_parser_accepts) {
  const settings defaults;
  for (const auto& entry : node_keys()) {
    const auto held = entry.read(defaults);
    if (!held || is_list(entry.type) || entry.type == kind::text || entry.type == kind::path)
      continue;
    const auto parsed = parse_value(entry, format_value(entry.type, *held), true);
    ASSERT_TRUE(parsed) << entry.path << ": " << describe(parsed.error());
    EXPECT_TRUE(*parsed == *held) << entry.path;
  }
}

TEST(table, has_no_two_keys_with_one_name_or_one_variable) {
  std::set<std::string> variables;
  for (const auto& entry : node_keys())
    EXPECT_TRUE(variables.insert(environment_name(entry.path)).second) << entry.path;
}

TEST(example, is_valid_names_every_key_and_shows_the_defaults) {
  const std::string text = contents("examples/config/troupe.example.yaml");
  layers example;
  example.file(text, "troupe.example.yaml", "/");
  example.check();
  EXPECT_THAT(example.problems(), IsEmpty()) << to_string(example.problems().at(0));
  const settings defaults;
  for (const auto& entry : node_keys()) {
    const size_t dot = entry.path.rfind('.');
    const std::string name{dot == std::string_view::npos ? entry.path : entry.path.substr(dot + 1)};
    EXPECT_NE(text.find(name + ":"), std::string::npos) << entry.path << " is missing";
    const auto held = entry.read(defaults);
    EXPECT_TRUE(held == entry.read(example.values())) << entry.path << " is not the default";
  }
  for (const auto& entry : model_keys())
    EXPECT_TRUE(entry.read(settings_for(example.values(), "my-org/assistant")).has_value())
        << entry.path;
}

TEST(suggestions, come_only_for_near_misses) {
  const std::string_view names[] = {"keep_alive", "threads", "role"};
  EXPECT_EQ(closest("keepalive", names), "keep_alive");
  EXPECT_EQ(closest("Keep-Alive", names), "keep_alive");
  EXPECT_EQ(closest("rloe", names), "role");
  EXPECT_EQ(closest("banana", names), "");
  EXPECT_EQ(closest(std::string(100'000, 'x'), names), "");
}

} // namespace
} // namespace troupe::config

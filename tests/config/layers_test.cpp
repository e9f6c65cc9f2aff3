// Precedence, origins, and the rules that span keys.
#include "config/layers.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "config/keys.hpp"
#include "config/load.hpp"

namespace troupe::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(precedence, is_flag_then_environment_then_file_then_default) {
  layers all;
  all.file("threads: 1\nqueue_max: 1\nnode_name: file\n", "t.yaml", "/");
  all.environment({{"TROUPE_QUEUE_MAX", "2"}, {"TROUPE_NODE_NAME", "env"}});
  all.flag("--node-name", "node_name", "flag");
  EXPECT_THAT(all.problems(), IsEmpty());
  EXPECT_EQ(all.values().threads, 1u);
  EXPECT_EQ(all.values().queue_max, 2u);
  EXPECT_EQ(all.values().node_name, "flag");
  EXPECT_EQ(all.origin("threads"), "t.yaml:1:1");
  EXPECT_EQ(all.origin("queue_max"), "TROUPE_QUEUE_MAX");
  EXPECT_EQ(all.origin("node_name"), "--node-name");
  EXPECT_EQ(all.origin("admin"), "default");
}

TEST(precedence, leaves_the_lower_layer_in_place_when_a_higher_one_is_wrong) {
  layers all;
  all.file("threads: 3\n", "t.yaml", "/");
  all.environment({{"TROUPE_THREADS", "lots"}});
  EXPECT_EQ(all.values().threads, 3u);
  EXPECT_THAT(all.problems(), ElementsAre(problem{"TROUPE_THREADS",
                                                  "'lots' is not a whole number from 0 to 4096"}));
}

TEST(environment, reaches_every_key_and_only_tells_of_unknown_ones) {
  layers all;
  all.environment({{"TROUPE_ENGINE_KV_MEMORY", "1GiB"},
                   {"TROUPE_MODEL_DIRS", "/a,/b"},
                   {"TROUPE_ADMIN", "off"},
                   {"TROUPE_URL", "http://x"},
                   {"TROUPE_TREADS", "4"}});
  EXPECT_THAT(all.problems(), IsEmpty());
  EXPECT_EQ(all.values().engine.kv_memory, (memory_amount{1ull << 30, 0}));
  EXPECT_THAT(all.values().model_dirs, ElementsAre("/a", "/b"));
  EXPECT_FALSE(all.values().admin);
  ASSERT_EQ(all.notes().size(), 1u);
  EXPECT_EQ(to_string(all.notes()[0]),
            "TROUPE_TREADS: is set but means nothing here: did you mean TROUPE_THREADS?");
}

TEST(check, knows_which_keys_a_role_needs) {
  const auto complaint = [](const std::string& text) {
    layers all;
    all.file(text, "t.yaml", "/");
    all.check();
    return all.problems().empty() ? std::string{} : to_string(all.problems()[0]);
  };
  EXPECT_EQ(complaint("role: all\n"), "");
  EXPECT_EQ(complaint("role: head\ncluster: {listen: 'h:1'}\n"), "");
  EXPECT_EQ(complaint("role: worker\ncluster: {join: 'h:1'}\n"), "");
  EXPECT_THAT(complaint("role: worker\n"), HasSubstr("t.yaml:1:1: a worker needs cluster.join"));
  EXPECT_THAT(complaint("role: head\n"), HasSubstr("a head needs cluster.listen"));
  EXPECT_THAT(complaint("cluster: {join: 'h:1'}\n"), HasSubstr("t.yaml:1:11: only a worker joins"));
  EXPECT_THAT(complaint("role: worker\ncluster: {join: 'h:0'}\n"), HasSubstr("names port 0"));
}

TEST(show, is_a_file_that_reads_back_as_the_same_settings) {
  layers first;
  first.file("listen: '[::1]:80'\nmodel_dirs: [/a b, '/c: d', \"/it's\"]\nhub_cache: "
             "/cache\nnode_name: 'true'\n"
             "cluster: {listen: 'h:7'}\nmodels: {'q*': {keep_alive: -1, pinned: true}, m: "
             "{aliases: [x, 'y:z']}}\n",
             "t.yaml", "/");
  ASSERT_THAT(first.problems(), IsEmpty());
  const std::string text = show(first.values(), nullptr);
  layers second;
  second.file(text, "again.yaml", "/");
  EXPECT_THAT(second.problems(), IsEmpty()) << text;
  EXPECT_EQ(show(second.values(), nullptr), text);
  EXPECT_THAT(text, HasSubstr("model_dirs: ['/a b', '/c: d', '/it''s']"));
  EXPECT_EQ(second.values().node_name, "true");
}

TEST(show, tells_origins_in_comments) {
  layers all;
  all.environment({{"TROUPE_THREADS", "2"}});
  const auto origins = all.origins();
  const std::string text = show(all.values(), &origins);
  EXPECT_THAT(text, testing::ContainsRegex("threads: 2 +# TROUPE_THREADS\n"));
  EXPECT_THAT(text, testing::ContainsRegex("admin: true +# default\n"));
}

struct config_dir : testing::Test {
  std::filesystem::path dir =
      std::filesystem::temp_directory_path() / ("troupe_config_" + std::to_string(getpid()));
  void SetUp() override { std::filesystem::create_directories(dir); }
  void TearDown() override { std::filesystem::remove_all(dir); }
};

TEST_F(config_dir, load_settings_reads_a_file_and_collects_every_problem) {
  const auto file = dir / "troupe.yaml";
  std::ofstream{file} << "threads: 2\nmodel_dirs: [m]\n";
  const std::map<std::string, std::string> none;
  auto loaded = load_settings(file, none, {{"--queue-max", "queue_max", {"7"}}});
  ASSERT_TRUE(loaded) << describe(loaded.error());
  EXPECT_EQ(loaded->values.threads, 2u);
  EXPECT_EQ(loaded->values.queue_max, 7u);
  EXPECT_THAT(loaded->values.model_dirs, ElementsAre((dir / "m").string()));
  EXPECT_EQ(loaded->origins.at("threads"), file.string() + ":1:1");

  std::ofstream{file} << "threds: 2\nadmin: 5\n";
  loaded = load_settings(file, none, {{"--queue-max", "queue_max", {"0"}}});
  ASSERT_FALSE(loaded);
  EXPECT_THAT(describe(loaded.error()),
              testing::AllOf(HasSubstr(":1:1: unknown key 'threds'"), HasSubstr(":2:8: "),
                             HasSubstr("--queue-max: ")));
  EXPECT_EQ(check_file(file).size(), 2u);
}

TEST_F(config_dir, an_absent_file_or_a_directory_is_one_clear_problem) {
  EXPECT_THAT(check_file(dir / "none.yaml"),
              ElementsAre(HasSubstr("none.yaml: cannot be opened: No such file")));
  EXPECT_THAT(check_file(dir), ElementsAre(HasSubstr("is a directory")));
}

} // namespace
} // namespace troupe::config

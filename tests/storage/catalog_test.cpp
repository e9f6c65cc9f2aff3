#include "storage/catalog.hpp"

#include <map>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/storage/model_files.hpp"

namespace {

namespace fs = std::filesystem;
using namespace troupe;
using namespace troupe::storage;
using storage::test::write_file;
using storage::test::write_model;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> ids(const catalog& found) {
  std::vector<std::string> out;
  for (const auto& model : found.models)
    out.push_back(model.id.text);
  return out;
}

class catalog_test : public testing::Test {
protected:
  /// The reason for which the only thing below `root` was left out.
  std::string why_not() {
    const auto found = find_models({root});
    EXPECT_THAT(ids(found), IsEmpty());
    EXPECT_EQ(found.skipped.size(), 1u);
    return found.skipped.empty() ? "" : found.skipped.front().why;
  }

  storage::test::temporary_directory temporary;
  fs::path root = temporary.path();
};

TEST_F(catalog_test, a_root_that_is_a_model_has_its_own_name) {
  write_model(root / "fox");
  const auto found = find_models({root / "fox" / ""});
  ASSERT_THAT(ids(found), ElementsAre("fox"));
  const auto& model = found.models.front();
  EXPECT_EQ(model.dir, root / "fox");
  EXPECT_EQ(model.architecture, "LlamaForCausalLM");
  EXPECT_EQ(model.weight_bytes, fs::file_size(root / "fox" / "model.safetensors"));
  EXPECT_GT(model.modified.time_since_epoch().count(), 0);
  EXPECT_THAT(found.skipped, IsEmpty());
}

TEST_F(catalog_test, a_relative_root_has_the_name_of_its_directory) {
  write_model(root / "fox");
  const auto before = fs::current_path();
  fs::current_path(root / "fox");
  const auto found = find_models({"."});
  fs::current_path(before);
  EXPECT_THAT(ids(found), ElementsAre("fox"));
}

TEST_F(catalog_test, models_are_found_three_levels_down_and_sorted_by_id) {
  write_model(root / "zebra");
  write_model(root / "acme" / "owl");
  write_model(root / "shelf" / "acme" / "owl");
  write_model(root / "too" / "far" / "down" / "here");
  write_model(root / ".hidden");
  const auto found = find_models({root});
  EXPECT_THAT(ids(found), ElementsAre("acme/owl", "shelf/acme/owl", "zebra"));
  EXPECT_THAT(found.skipped, IsEmpty());
}

TEST_F(catalog_test, directories_inside_a_model_are_no_models) {
  write_model(root / "fox");
  write_model(root / "fox" / "checkpoint-100");
  EXPECT_THAT(ids(find_models({root})), ElementsAre("fox"));
}

TEST_F(catalog_test, a_hub_cache_gives_the_snapshot_of_main) {
  const auto hub = root / "hub";
  const auto repository = hub / "models--acme--owl-7b";
  write_model(repository / "snapshots" / "1111");
  write_model(repository / "snapshots" / "2222");
  write_file(repository / "refs" / "main", "1111\n");
  write_model(hub / "models--plain" / "snapshots" / "3333");
  write_model(hub / "datasets--acme--texts" / "snapshots" / "4444" / "too" / "deep");
  const auto found = find_models({hub});
  ASSERT_THAT(ids(found), ElementsAre("acme/owl-7b", "plain"));
  EXPECT_EQ(found.models[0].dir, repository / "snapshots" / "1111");
  EXPECT_THAT(ids(find_models({repository})), ElementsAre("acme/owl-7b"));
  EXPECT_THAT(ids(find_models({repository / "snapshots" / "2222"})), ElementsAre("acme/owl-7b"));
  EXPECT_THAT(ids(find_models({root})), ElementsAre("acme/owl-7b", "plain"));
}

TEST_F(catalog_test, a_hub_reference_cannot_point_out_of_its_snapshots) {
  write_model(root / "elsewhere");
  const auto hub = root / "hub";
  for (const char* target : {"../../../elsewhere", "..", ""}) {
    write_file(hub / "models--acme--owl" / "refs" / "main", target);
    const auto found = find_models({hub});
    EXPECT_THAT(ids(found), IsEmpty()) << target;
    ASSERT_EQ(found.skipped.size(), 1u);
    EXPECT_THAT(found.skipped.front().why, HasSubstr("nothing was downloaded"));
  }
}

TEST_F(catalog_test, links_as_hub_caches_have_them_are_followed) {
  const auto repository = root / "models--acme--owl";
  write_model(repository / "blobs" / "b");
  const auto snapshot = repository / "snapshots" / "1";
  fs::create_directories(snapshot);
  for (const char* name : {"config.json", "model.safetensors"})
    fs::create_symlink(fs::path("../../blobs/b") / name, snapshot / name);
  EXPECT_THAT(ids(find_models({root})), ElementsAre("acme/owl"));
  fs::remove(repository / "blobs" / "b" / "model.safetensors");
  EXPECT_THAT(why_not(), HasSubstr("model.safetensors is missing"));
}

TEST_F(catalog_test, of_two_models_with_one_name_the_first_root_wins) {
  write_model(root / "one" / "fox");
  write_model(root / "two" / "fox");
  for (const auto& [first, second] : {std::pair{"one", "two"}, std::pair{"two", "one"}}) {
    const auto found = find_models({root / first, root / second});
    ASSERT_THAT(ids(found), ElementsAre("fox"));
    EXPECT_EQ(found.models.front().dir, root / first / "fox");
    ASSERT_EQ(found.skipped.size(), 1u);
    EXPECT_EQ(found.skipped.front().where, root / second / "fox");
    EXPECT_THAT(found.skipped.front().why, HasSubstr("another model has the name fox"));
  }
}

TEST_F(catalog_test, a_root_given_twice_or_through_a_link_counts_once) {
  write_model(root / "fox");
  fs::create_directory_symlink(root / "fox", root / "zorro");
  fs::create_directory_symlink(root, root / "loop");
  const auto found = find_models({root, root});
  EXPECT_THAT(ids(found), ElementsAre("fox"));
  EXPECT_THAT(found.skipped, IsEmpty());
}

TEST_F(catalog_test, shards_are_counted_by_their_names) {
  write_file(root / "m" / "config.json", storage::test::llama_config);
  write_file(root / "m" / "model.safetensors.index.json", "not read when the names tell");
  write_file(root / "m" / "model-00001-of-00002.safetensors", "12345");
  EXPECT_THAT(why_not(), HasSubstr("1 of 2 weight files are missing"));
  write_file(root / "m" / "model-00002-of-00002.safetensors", "123");
  const auto found = find_models({root});
  ASSERT_THAT(ids(found), ElementsAre("m"));
  EXPECT_EQ(found.models.front().weight_bytes, 8u);
}

TEST_F(catalog_test, shards_with_other_names_are_taken_from_the_index) {
  write_file(root / "m" / "config.json", storage::test::llama_config);
  write_file(root / "m" / "model.safetensors.index.json",
             R"({"weight_map":{"x":"left.safetensors","y":"right.safetensors"}})");
  write_file(root / "m" / "left.safetensors", "1234");
  EXPECT_THAT(why_not(), HasSubstr("right.safetensors is missing"));
  write_file(root / "m" / "right.safetensors", "12");
  EXPECT_EQ(find_models({root}).models.at(0).weight_bytes, 6u);
}

TEST_F(catalog_test, what_cannot_be_served_is_noted_with_the_reason) {
  const auto dir = root / "m";
  write_file(dir / "config.json", storage::test::llama_config);
  EXPECT_THAT(why_not(), HasSubstr("no weights"));
  write_file(dir / "pytorch_model.bin", "x");
  EXPECT_THAT(why_not(), HasSubstr("pytorch_model.bin"));
  write_file(dir / "model.safetensors", storage::test::lfs_pointer);
  EXPECT_THAT(why_not(), HasSubstr("Git LFS pointer"));
  write_file(dir / "model.safetensors", "");
  EXPECT_THAT(why_not(), HasSubstr("empty"));
  write_model(dir, "{broken");
  EXPECT_THAT(why_not(), HasSubstr("config.json is not a JSON object"));
  fs::remove(dir / "config.json");
  EXPECT_THAT(why_not(), HasSubstr("no config.json"));
  fs::remove(dir / "model.safetensors");
  write_file(dir / "adapter_config.json", "{}");
  EXPECT_THAT(why_not(), HasSubstr("adapter"));
}

TEST_F(catalog_test, parts_of_a_diffusion_pipeline_are_no_models) {
  write_file(root / "paint" / "model_index.json", "{}");
  write_model(root / "paint" / "text_encoder");
  EXPECT_THAT(why_not(), HasSubstr("diffusion"));
}

TEST_F(catalog_test, the_configuration_of_another_program_is_no_model) {
  write_file(root / "app" / "config.json", R"({"port": 80})");
  const auto found = find_models({root});
  EXPECT_THAT(ids(found), IsEmpty());
  EXPECT_THAT(found.skipped, IsEmpty());
}

TEST_F(catalog_test, a_model_without_an_architecture_is_still_found) {
  write_model(root / "m", R"({"model_type": "llama", "architectures": []})");
  EXPECT_EQ(find_models({root}).models.at(0).architecture, "");
}

TEST_F(catalog_test, a_root_that_is_no_directory_is_noted) {
  write_file(root / "file", "x");
  const auto found = find_models({root / "absent", root / "file"});
  ASSERT_EQ(found.skipped.size(), 2u);
  EXPECT_THAT(found.skipped[0].why, HasSubstr("no such directory"));
  EXPECT_THAT(found.skipped[1].why, HasSubstr("not a directory"));
}

TEST_F(catalog_test, a_name_that_is_not_utf8_is_noted) {
  write_model(root / "bad\xff");
  EXPECT_THAT(why_not(), HasSubstr("UTF-8"));
}

/// Sets environment variables and puts the old values back.
class environment {
public:
  void set(const char* name, const std::string& value) {
    if (const char* old = std::getenv(name); !before_.contains(name))
      before_[name] = old ? std::optional<std::string>{old} : std::nullopt;
    value.empty() ? ::unsetenv(name) : ::setenv(name, value.c_str(), 1);
  }
  ~environment() {
    for (const auto& [name, value] : before_)
      value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
  }

private:
  std::map<std::string, std::optional<std::string>> before_;
};

TEST_F(catalog_test, the_hub_cache_follows_the_environment_in_the_order_of_the_hub_clients) {
  environment env;
  for (const char* name : {"HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"})
    env.set(name, "");
  env.set("HOME", root / "home");
  EXPECT_FALSE(default_hub_cache());
  for (const char* dir : {"home/.cache/huggingface/hub", "xdg/huggingface/hub", "hf/hub", "cache"})
    fs::create_directories(root / dir);
  EXPECT_EQ(default_hub_cache(), root / "home/.cache/huggingface/hub");
  env.set("XDG_CACHE_HOME", root / "xdg");
  EXPECT_EQ(default_hub_cache(), root / "xdg/huggingface/hub");
  env.set("HF_HOME", root / "hf");
  EXPECT_EQ(default_hub_cache(), root / "hf/hub");
  env.set("HF_HUB_CACHE", root / "cache");
  EXPECT_EQ(default_hub_cache(), root / "cache");
  env.set("HF_HUB_CACHE", "~/.cache");
  EXPECT_EQ(default_hub_cache(), root / "home/.cache");
  env.set("HF_HUB_CACHE", root / "absent");
  EXPECT_FALSE(default_hub_cache()) << "a directory that was asked for must not be replaced";
}

} // namespace

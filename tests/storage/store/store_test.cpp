// The store without a network: choosing files, layouts, locks, removal.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "storage/catalog.hpp"
#include "storage/errors.hpp"
#include "storage/model_dir.hpp"
#include "storage/store/file_lock.hpp"
#include "storage/store/file_selection.hpp"
#include "storage/store/files.hpp"
#include "storage/store/in_use.hpp"
#include "storage/store/layout.hpp"
#include "storage/store/manifest.hpp"
#include "storage/store/sha256.hpp"
#include "storage/store/usage.hpp"
#include "tests/storage/model_files.hpp"

namespace troupe::storage {
namespace {

namespace fs = std::filesystem;
using test::temporary_directory;
using test::write_file;

std::vector<source_file> files(std::initializer_list<const char*> paths) {
  std::vector<source_file> out;
  for (const auto* path : paths)
    out.push_back({path, 1, "v", {}});
  return out;
}

std::string joined(const caf::expected<std::vector<source_file>>& chosen) {
  if (!chosen)
    return "error: " + describe(chosen.error());
  std::string out;
  for (const auto& file : *chosen)
    out += (out.empty() ? "" : " ") + file.path;
  return out;
}

TEST(files_to_serve, are_one_format_of_weights_and_what_goes_with_it) {
  EXPECT_EQ(joined(files_to_serve(
                files({"config.json", "model.safetensors", "pytorch_model.bin", "logo.png",
                       "onnx/model.onnx", "original/c.pth", "x.gguf", "README.md"}),
                "", "o")),
            "config.json model.safetensors README.md");
  EXPECT_EQ(joined(files_to_serve(files({"m.Q4_K_M.gguf", "README.md"}), "", "o")),
            "m.Q4_K_M.gguf README.md");
  EXPECT_EQ(joined(files_to_serve(files({"m.Q4_K_M.gguf", "m.Q8_0.gguf", "a.md"}), "*Q8*", "o")),
            "m.Q8_0.gguf a.md");
  EXPECT_EQ(
      joined(files_to_serve(files({"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}), "", "o")),
      "m-00001-of-00002.gguf m-00002-of-00002.gguf");
  EXPECT_NE(joined(files_to_serve(files({"m.Q4.gguf", "m.Q8.gguf"}), "", "o")).find("m.Q8.gguf"),
            std::string::npos);
  EXPECT_EQ(files_to_serve(files({"config.json", "pytorch_model.bin"}), "", "o").error(),
            errc::unsupported);
  EXPECT_EQ(files_to_serve(files({"model.safetensors"}), "*.gguf", "o").error(), errc::unsupported);
}

TEST(glob, matches_the_whole_text) {
  EXPECT_TRUE(matches_glob("model.Q8_0.gguf", "*Q8*"));
  EXPECT_TRUE(matches_glob("abc", "a?c"));
  EXPECT_TRUE(matches_glob("", "*"));
  EXPECT_TRUE(matches_glob("aXbXc", "a*b*c"));
  EXPECT_FALSE(matches_glob("abc", "ab"));
  EXPECT_FALSE(matches_glob("abc", "?bcd"));
  EXPECT_FALSE(matches_glob("", "?"));
  EXPECT_FALSE(matches_glob(std::string(5000, 'a'), "*a*a*a*a*a*a*b"));
}

TEST(sha256, agrees_with_the_published_example) {
  sha256 sum; // FIPS 180-2, appendix B.1, in pieces
  for (const char c : std::string_view{"abc"})
    sum.add(std::as_bytes(std::span{&c, 1}));
  EXPECT_EQ(sum.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(vouched_sum, knows_the_ids_that_git_gives) {
  const auto complaint = [](const char* id, std::string_view content) {
    source_file file{.path = "a", .size_bytes = content.size(), .version = {}, .sha256 = {}};
    file.git_blob = id;
    vouched_sum sum{file};
    for (const char c : content)
      sum.add(std::as_bytes(std::span{&c, 1}));
    return sum.complaint();
  };
  // "Pro Git", section 10.2, and `git hash-object` of an empty file.
  EXPECT_EQ(complaint("d670460b4b4aece5915caf5c68d12f560a9fe3e4", "test content\n"), "");
  EXPECT_EQ(complaint("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", ""), "");
  // Of the content alone: FIPS 180-2, appendix A.1.
  EXPECT_EQ(complaint("a9993e364706816aba3e25717850c26c9cd0d89d", "abc"), "");
  EXPECT_NE(complaint("d670460b4b4aece5915caf5c68d12f560a9fe3e4", "test content.")
                .find("not d670460b4b4aece5915caf5c68d12f560a9fe3e4"),
            std::string::npos);
}

TEST(store_layout, shows_nothing_before_it_is_published) {
  temporary_directory dir;
  const auto from = *parse_location("https://host/tiny");
  auto layout = make_store_layout(dir.path(), "tiny", from);
  ASSERT_TRUE(layout) << describe(layout.error());
  const auto weights =
      test::safetensors(R"({"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "abcd");
  const std::vector<source_file> wanted = {{"config.json", test::llama_config.size(), "v1", {}},
                                           {"model.safetensors", weights.size(), "v2", {}}};
  EXPECT_FALSE((*layout)->has(wanted[0]));
  write_file((*layout)->place(wanted[0]).partial, test::llama_config);
  write_file((*layout)->place(wanted[1]).partial, weights);
  EXPECT_TRUE(find_models({dir.path()}).models.empty());
  EXPECT_FALSE((*layout)->publish(wanted, {}));
  const auto found = find_models({dir.path()});
  ASSERT_EQ(found.models.size(), 1u);
  EXPECT_EQ(found.models[0].id.text, "tiny");
  EXPECT_FALSE(make_store_layout(dir.path(), "tiny", *parse_location("https://other/tiny")));
  EXPECT_FALSE(make_store_layout(dir.path(), "../x", from));
  EXPECT_FALSE(make_store_layout(dir.path(), "a/.b", from));
}

TEST(store_layout, a_directory_of_somebody_else_is_left_alone) {
  temporary_directory dir;
  write_file(dir.path() / "mine/config.json", "{}");
  EXPECT_EQ(make_store_layout(dir.path(), "mine", *parse_location("https://h/mine")).error(),
            errc::in_use);
}

TEST(hub_layout, links_snapshots_to_blobs_and_names_the_revision) {
  temporary_directory dir;
  const auto from = *parse_location("hf://acme/tiny");
  const std::string commit(40, 'd');
  const auto layout = make_hub_layout(dir.path(), from, commit);
  const source_file config{"config.json", test::llama_config.size(), "e1", {}};
  write_file(layout->place(config).blob, test::llama_config);
  EXPECT_FALSE(layout->has(config));
  EXPECT_FALSE(layout->publish({config}, {}));
  EXPECT_TRUE(layout->has(config));
  const auto link = dir.path() / "models--acme--tiny/snapshots" / commit / "config.json";
  EXPECT_EQ(fs::read_symlink(link), "../../blobs/e1");
  EXPECT_EQ(read_small_file(dir.path() / "models--acme--tiny/refs/main", 100), commit);
  EXPECT_EQ(cached_snapshot(dir.path(), from), link.parent_path());
  EXPECT_EQ(cached_snapshot(dir.path(), *parse_location("hf://acme/tiny@" + commit)),
            link.parent_path());
  EXPECT_EQ(cached_snapshot(dir.path(), *parse_location("hf://acme/tiny@other")), "");
}

TEST(replace_file, leaves_the_old_file_alone_where_the_new_one_does_not_fit) {
  const temporary_directory dir;
  const auto file = dir.path() / "list";
  ASSERT_FALSE(replace_file(file, "old"));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{4096, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto why = replace_file(file, std::string(1 << 20, 'x'));
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(describe(why).find("cannot be written: File too large"), std::string::npos)
      << describe(why);
  EXPECT_EQ(std::distance(fs::directory_iterator{dir.path()}, {}), 1);
  EXPECT_EQ(fs::file_size(file), 3u);
}

TEST(file_lock, excludes_and_is_shared) {
  temporary_directory dir;
  const auto file = dir.path() / "a/b.lock";
  using mode = file_lock::mode;
  auto reader = file_lock::try_lock(file, mode::shared);
  ASSERT_TRUE(reader && *reader);
  EXPECT_TRUE(*file_lock::try_lock(file, mode::shared));
  EXPECT_FALSE(*file_lock::try_lock(file, mode::exclusive));
  std::stop_source stopper;
  stopper.request_stop();
  EXPECT_EQ(file_lock::lock(file, mode::exclusive, stopper.get_token()).error(), errc::cancelled);
  reader->reset();
  EXPECT_TRUE(*file_lock::try_lock(file, mode::exclusive));
}

TEST(remove_model, refuses_while_somebody_holds_it_and_frees_everything_afterwards) {
  temporary_directory dir;
  const auto store = dir.path() / "store", cache = dir.path() / "hub";
  const auto model = store / "org/tiny";
  write_file(model / ".troupe/source.json", R"({"source": "https://h/tiny", "files": {}})");
  write_file(model / "model.safetensors", std::string(100'000, 'x'));
  auto held = hold_model(model);
  ASSERT_TRUE(held);
  auto all = stored_models(store, cache);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].name, "org/tiny");
  EXPECT_EQ(all[0].source, "https://h/tiny");
  EXPECT_GE(all[0].disk_bytes, 100'000u);
  EXPECT_TRUE(all[0].in_use);
  EXPECT_EQ(remove_model(all[0], {}).error(), errc::in_use);
  EXPECT_TRUE(fs::exists(model / "model.safetensors"));
  held.reset();
  const auto freed = remove_model(all[0], {});
  ASSERT_TRUE(freed) << describe(freed.error());
  EXPECT_GE(*freed, 100'000u);
  EXPECT_FALSE(fs::exists(model));
  EXPECT_TRUE(stored_models(store, cache).empty());
  EXPECT_EQ(hold_model(dir.path()), nullptr);
}

/// A hub's repository of GGUF models: two snapshots that share a blob, and one part of a download.
struct gguf_repository : testing::Test {
  temporary_directory dir;
  const fs::path store = dir.path() / "store", cache = dir.path() / "hub";
  const fs::path repository = cache / "models--acme--m-GGUF";
  const std::string first = std::string(40, '1'), second = std::string(40, '2');

  void link(const std::string& commit, const std::string& path, const std::string& blob) {
    if (!fs::exists(repository / "blobs" / blob))
      write_file(repository / "blobs" / blob, "GGUF" + std::string(50'000, 'x'));
    const auto at = repository / "snapshots" / commit / path;
    fs::create_directories(at.parent_path());
    fs::create_symlink(fs::relative(repository / "blobs" / blob, at.parent_path()), at);
  }
  void SetUp() override {
    for (const auto& commit : {first, second}) {
      link(commit, "README.md", "readme");
      link(commit, "m-Q4_K_M.gguf", "q4");
    }
    link(first, "big/m-Q8_0-00001-of-00002.gguf", "q8a");
    link(first, "big/m-Q8_0-00002-of-00002.gguf", "q8b");
    link(first, "mmproj-F16.gguf", "projector");
    write_file(repository / "refs/main", first);
    write_file(repository / "blobs/other.troupe-partial", "half of another one");
  }
  bool has_blob(const char* name) const { return fs::exists(repository / "blobs" / name); }
  stored_model found() const {
    const auto all = stored_models(store, cache);
    return all.size() == 1 ? all[0] : stored_model{};
  }
};

TEST_F(gguf_repository, lists_its_models_apart) {
  const auto one = found();
  ASSERT_EQ(one.ggufs.size(), 2u);
  EXPECT_EQ(one.ggufs[0].name, "big/m-Q8_0");
  EXPECT_EQ(one.ggufs[0].file, "big/m-Q8_0-00001-of-00002.gguf");
  EXPECT_EQ(one.ggufs[1].name, "m-Q4_K_M");
  EXPECT_GE(one.ggufs[0].disk_bytes, 100'000u);
  EXPECT_LT(one.ggufs[1].disk_bytes, 100'000u);
}

TEST_F(gguf_repository, loses_one_of_them_and_keeps_the_rest) {
  const auto freed = remove_model(found(), {.gguf = {.tag = "q8_0", .file = {}}});
  ASSERT_TRUE(freed) << describe(freed.error());
  EXPECT_GE(*freed, 100'000u);
  EXPECT_FALSE(has_blob("q8a") || has_blob("q8b"));
  EXPECT_FALSE(fs::exists(repository / "snapshots" / first / "big"));
  EXPECT_TRUE(has_blob("q4") && has_blob("readme") && has_blob("projector"));
  EXPECT_TRUE(has_blob("other.troupe-partial"));
  EXPECT_TRUE(fs::exists(repository / "snapshots" / first / "m-Q4_K_M.gguf"));
  const auto none = remove_model(found(), {.gguf = {.tag = "Q8_0", .file = {}}});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error(), errc::not_found);
  EXPECT_NE(describe(none.error()).find("m-Q4_K_M"), std::string::npos) << describe(none.error());
}

TEST_F(gguf_repository, loses_what_nobody_uses_while_another_of_them_is_in_use) {
  const auto q4 = removal{.gguf = {.tag = "Q4_K_M", .file = {}}};
  const auto q8 = removal{.gguf = {.tag = "Q8_0", .file = {}}};
  auto held = hold_model(repository / "snapshots" / first / "m-Q4_K_M.gguf");
  ASSERT_TRUE(held);
  EXPECT_TRUE(found().in_use);
  EXPECT_EQ(remove_model(found(), {}).error(), errc::in_use);
  EXPECT_EQ(remove_model(found(), q4).error(), errc::in_use);
  EXPECT_TRUE(remove_model(found(), q8));
  EXPECT_FALSE(has_blob("q8a"));
  EXPECT_TRUE(has_blob("q4"));
  auto forced = q4;
  forced.force = true;
  EXPECT_TRUE(remove_model(found(), forced));
  EXPECT_FALSE(has_blob("q4"));
}

TEST_F(gguf_repository, loses_none_while_who_uses_it_has_not_said_which) {
  const auto q8 = removal{.gguf = {.tag = "Q8_0", .file = {}}};
  auto held = hold_model(repository / "snapshots" / first);
  ASSERT_TRUE(held);
  EXPECT_EQ(remove_model(found(), q8).error(), errc::in_use);
  held = hold_model(repository / "snapshots" / first / "big/m-Q8_0-00001-of-00002.gguf");
  EXPECT_EQ(remove_model(found(), q8).error(), errc::in_use);
  held.reset();
  EXPECT_TRUE(remove_model(found(), q8));
}

TEST_F(gguf_repository, loses_a_revision_with_its_last_model_and_not_what_others_link) {
  const auto freed =
      remove_model(found(), {.revision = second, .gguf = {.tag = "Q4_K_M", .file = {}}});
  ASSERT_TRUE(freed) << describe(freed.error());
  EXPECT_FALSE(fs::exists(repository / "snapshots" / second));
  EXPECT_TRUE(has_blob("q4") && has_blob("readme"));
  EXPECT_TRUE(remove_model(found(), {.gguf = {.tag = {}, .file = "m-Q4_K_M.gguf"}}));
  EXPECT_FALSE(has_blob("q4"));
  EXPECT_TRUE(remove_model(found(), {.gguf = {.tag = "Q8_0", .file = {}}}));
  EXPECT_FALSE(fs::exists(repository)) << "nothing that can be served is left";
}

TEST(remove_model, takes_one_gguf_file_out_of_a_directory_of_the_store) {
  temporary_directory dir;
  const auto model = dir.path() / "m";
  for (const auto* name : {"m-Q8_0.gguf", "m-F16.gguf"})
    write_file(model / name, "GGUF" + std::string(50'000, 'x'));
  store_manifest manifest{.source = "https://h/m", .files = {}};
  for (const auto* name : {"m-Q8_0.gguf", "m-F16.gguf"})
    manifest.files[name] = {name, 50'004, "v", {}};
  ASSERT_FALSE(write_manifest(model, manifest));
  const auto one = stored_models(dir.path(), dir.path() / "none").at(0);
  ASSERT_EQ(one.ggufs.size(), 2u);
  ASSERT_TRUE(remove_model(one, {.gguf = {.tag = "F16", .file = {}}}));
  EXPECT_FALSE(fs::exists(model / "m-F16.gguf"));
  EXPECT_TRUE(fs::exists(model / "m-Q8_0.gguf"));
  EXPECT_FALSE(read_manifest(model).files.contains("m-F16.gguf"));
  EXPECT_TRUE(remove_model(one, {.gguf = {.tag = "Q8_0", .file = {}}}));
  EXPECT_FALSE(fs::exists(model));
}

} // namespace
} // namespace troupe::storage

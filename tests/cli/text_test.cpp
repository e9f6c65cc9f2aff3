// What people and scripts read: tables, times, progress, streams.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "cli/clock_text.hpp"
#include "cli/explain.hpp"
#include "cli/http_client.hpp"
#include "cli/inspect.hpp"
#include "cli/model_choice.hpp"
#include "cli/progress_bar.hpp"
#include "cli/table.hpp"

namespace troupe::cli {
namespace {

using namespace std::chrono_literals;
using json = nlohmann::ordered_json;

TEST(clock_text, says_times_as_people_do) {
  const std::chrono::system_clock::time_point now{1'000'000s};
  EXPECT_EQ(relative_time(now + 5min, now), "5 minutes from now");
  EXPECT_EQ(relative_time(now - 1s, now), "1 second ago");
  EXPECT_EQ(relative_time(now + 400ms, now), "now");
  EXPECT_EQ(elapsed_text(0.0204), "20 ms");
  EXPECT_EQ(elapsed_text(59.94), "59.9 s");
  EXPECT_EQ(elapsed_text(59.96), "1m 0s");
  EXPECT_EQ(elapsed_text(3 * 3600 + 12 * 60), "3h 12m");
}

TEST(table, aligns_columns_by_what_a_terminal_shows) {
  EXPECT_EQ(render_table({{"NAME", "N"}, {"\xe6\x97\xa5\xe6\x9c\xac", "1"}, {"longer", "2"}}),
            "NAME      N\n"
            "\xe6\x97\xa5\xe6\x9c\xac      1\n"
            "longer    2\n");
  EXPECT_EQ(render_table({{"a\x1b[2J\n"}}), "a?[2J?\n") << "a name cannot drive the terminal";
}

TEST(progress_text, never_exceeds_the_line) {
  EXPECT_EQ(progress_text("loading", 0, 0, 0, 80), "loading");
  const auto half = progress_text("loading", 512 << 20, 1 << 30, 2, 80);
  EXPECT_NE(half.find(" 50%  512 MiB / 1.0 GiB  256 MiB/s"), std::string::npos) << half;
  EXPECT_NE(half.find("[==="), std::string::npos) << half;
  for (size_t columns = 0; columns < 100; ++columns)
    EXPECT_LE(progress_text("loading", 7 << 20, 9 << 20, 1.5, columns).size(), columns);
}

TEST(models_text, shows_what_is_loaded_failed_or_asked_for) {
  const std::chrono::system_clock::time_point now{1'000'000s};
  const auto rows = json::parse(R"([
    {"id": "warm", "state": "ready", "resident_bytes": 1048576, "active": 0, "queued": 0,
     "unload_at": "1970-01-12T13:51:40.000Z"},
    {"id": "kept", "state": "ready", "pinned": true},
    {"id": "half", "state": "loading", "weight_bytes": 200, "loaded_bytes": 100},
    {"id": "cold", "state": "cold", "queued": 0},
    {"id": 7}, "nonsense"])");
  const auto loaded = models_text(rows, true, now, false);
  EXPECT_NE(loaded.find("warm     ready      1.0 MiB"), std::string::npos) << loaded;
  EXPECT_NE(loaded.find("5 minutes from now"), std::string::npos) << loaded;
  EXPECT_NE(loaded.find("pinned"), std::string::npos) << loaded;
  EXPECT_NE(loaded.find("50% loaded"), std::string::npos) << loaded;
  EXPECT_EQ(loaded.find("cold"), std::string::npos) << loaded;
  EXPECT_NE(models_text(rows, false, now, false).find("cold"), std::string::npos);
}

TEST(devices_text, says_what_is_used_and_free) {
  EXPECT_EQ(devices_text(json::parse(R"({"devices": [
              {"device": "cpu@here", "limit_bytes": 4194304, "weights_bytes": 2097152,
               "workspace_bytes": 1048576, "kv_memory_bytes": 8388608, "kv_bytes": 0},
              {"device": "empty@here", "limit_bytes": 4194304, "weights_bytes": 0}, 7]})")),
            "cpu@here: weights 2.0 MiB, workspace 1.0 MiB, free 1.0 MiB; KV none of 8.0 MiB\n");
  EXPECT_EQ(devices_text(json::parse(R"({"devices": 3})")), "");
  EXPECT_EQ(devices_text(json::parse("{}")), "");
}

TEST(actor_tree, draws_each_actor_once_whatever_the_server_says) {
  EXPECT_EQ(actor_tree_text(json::parse(R"([
              {"id": 1, "name": "node", "state": "running", "parent": 0},
              {"id": 2, "name": "a", "state": "idle", "parent": 1, "restarts": 2},
              {"id": 3, "name": "b", "state": "idle", "parent": 1, "detail": "busy"},
              {"id": 4, "name": "c", "state": "idle", "parent": 2}])")),
            "node (1) running\n"
            "|- a (2) idle  restarts 2\n"
            "|  `- c (4) idle\n"
            "`- b (3) idle  busy\n");
  EXPECT_EQ(actor_tree_text(json::parse(R"([
              {"id": 1, "name": "head", "node": "x", "state": "running", "parent": 0},
              {"id": 2, "name": "scheduler", "node": "x", "state": "running", "parent": 1},
              {"id": 1, "name": "worker", "node": "y", "state": "running", "parent": 0},
              {"id": 2, "name": "gpu", "node": "y", "state": "idle", "parent": 1}])")),
            "head (1) running\n`- scheduler (2) running\nworker (1) running\n`- gpu (2) idle\n")
      << "every node numbers its actors by itself";
  EXPECT_EQ(actor_tree_text(json::parse(R"([{"id": 5, "parent": 6}, {"id": 6, "parent": 5}])")), "")
      << "a cycle has no root";
}

TEST(event_splitter, cuts_data_and_comments_however_the_bytes_are_split) {
  const std::string stream = "data: one\n\n: loading 5%\r\ndata:two\r\nevent: x\n\ndata: th";
  for (size_t step = 1; step <= stream.size(); ++step) {
    event_splitter splitter;
    std::string seen;
    for (size_t at = 0; at < stream.size(); at += step)
      splitter.feed(
          std::string_view{stream}.substr(at, step),
          [&](std::string_view data) { seen += "d" + std::string{data} + ";"; },
          [&](std::string_view comment) { seen += "c" + std::string{comment} + ";"; });
    ASSERT_EQ(seen, "done;cloading 5%;dtwo;") << step;
  }
}

TEST(inspect_text, tenants_show_what_limits_they_have) {
  const auto text = tenants_text(
      json::array({{{"name", "acme"},
                    {"limits", {{"rpm", 600}, {"tpm", 0}, {"vram", uint64_t{24} << 30}}},
                    {"budget", {{"limit", 200}, {"spent", 170}, {"past_soft", true}}}},
                   {{"name", "free"}, {"limits", json::object()}, {"budget", nullptr}}}),
      false);
  EXPECT_NE(text.find("rpm: 600, vram: 24GiB"), std::string::npos) << text;
  EXPECT_NE(text.find("85% of 200, past its soft limit"), std::string::npos) << text;
  EXPECT_EQ(text.find("tpm"), std::string::npos) << text;
}

TEST(http_client, urls_and_errors_are_put_into_words) {
  EXPECT_EQ(normal_url("localhost:80/"), "http://localhost:80");
  EXPECT_EQ(url_escape("Qwen/Qwen3 0.6B"), "Qwen%2FQwen3%200.6B");
  EXPECT_EQ(error_message({503, R"({"error": {"message": "no room"}})"}), "no room");
  EXPECT_EQ(error_message({502, ""}), "the server answered with status 502");
  EXPECT_EQ(error_message({502, "<html>"}), "<html>");
}

TEST(model_choice, a_name_means_one_model_or_says_what_was_meant) {
  std::vector<storage::model_source> models(3);
  models[0].id.text = "Qwen/Qwen2.5-0.5B";
  models[1].id.text = "other/qwen2.5-0.5b";
  models[2].id.text = "stories-llama";
  config::settings settings;
  config::model_settings given;
  given.aliases = {{"tale"}};
  settings.models.emplace_back("stories-llama", given);
  const auto chosen = [&](const std::string& name) {
    const auto found = choose_model(models, settings, name);
    return found ? found->id.text : "error: " + describe(found.error());
  };
  EXPECT_EQ(chosen("Qwen/Qwen2.5-0.5B"), "Qwen/Qwen2.5-0.5B");
  EXPECT_EQ(chosen("Stories-Llama"), "stories-llama");
  EXPECT_EQ(chosen("tale"), "stories-llama");
  EXPECT_NE(chosen("qwen2.5-0.5b").find("could be Qwen/Qwen2.5-0.5B or other/"), std::string::npos);
  EXPECT_NE(chosen("storie-llama").find("did you mean 'stories-llama'?"), std::string::npos);
  EXPECT_NE(chosen("./x").find("there is no directory ./x"), std::string::npos);
}

TEST(explain_text, sets_what_was_predicted_beside_what_happened) {
  const auto request = json::parse(R"({
    "id": "req_1", "answer_id": "chatcmpl-1", "model": "big", "tenant": "acme",
    "state": "finished", "worker": "cpu@node", "choices": 1,
    "forecast": {"model_state": "pool and disk", "queue_seconds": 0, "load_seconds": 0.9,
                 "prefill_seconds": 0.1, "first_token_seconds": 1.0},
    "admission_seconds": 0.0002, "text_seconds": 0.001, "queue_seconds": 1.001,
    "load": {"bytes": {"source": 0, "disk": 2000000000, "pool": 1000000000},
             "queue_seconds": 0, "read_seconds": 0.75, "bind_seconds": 0.25, "total_seconds": 1.0},
    "prefill_seconds": 0.2, "first_token_seconds": 1.25, "total_seconds": 3.25,
    "decode_tokens_per_second": 31.5, "prompt_tokens": 40, "cached_tokens": 8,
    "completion_tokens": 64, "preemptions": 2, "worker_changes": 1})");
  const auto text = explain_text(request, false);
  const auto has = [&](const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in\n" << text;
  };
  has("req_1");
  has("chatcmpl-1");
  has("first token    1.00 s       1.25 s      -20%     -");
  has("disk 2.00 GB, pool 1.00 GB at 4.00 GB/s, bound in 250 ms");
  has("40 prompt tokens, 8 of them from the cache");
  has("64 tokens, 31.5 a second after the first");
  has("weights were: pool and disk; preemptions: 2; changes of worker: 1");
}

TEST(explain_text, makes_do_with_any_json) {
  for (const auto* text : {"{}", R"({"forecast": 3, "load": "x", "id": 7})",
                           R"({"forecast": {}, "load": {"bytes": [1]}})"})
    EXPECT_NE(explain_text(json::parse(text), false).find("STEP"), std::string::npos);
  EXPECT_NE(requests_text(json::parse(R"([7, {}, {"id": "a"}])"), {}, false).find("a  "),
            std::string::npos);
}

} // namespace
} // namespace troupe::cli

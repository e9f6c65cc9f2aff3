// Every route that does not generate, and what holds for all of them.
#include "engine/frontend/frontend.hpp"
#include "gateway_fixture.hpp"

namespace troupe::gateway::test {

using routes_test = gateway_fixture;

TEST_F(routes_test, models_are_listed_whatever_their_state) {
  const auto answer = get("/v1/models");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("content-type"), "application/json");
  const auto body = json::parse(answer.body);
  EXPECT_EQ(body["object"], "list");
  ASSERT_EQ(body["data"].size(), 2u);
  EXPECT_EQ(body["data"][0]["id"], "tiny");
  EXPECT_EQ(body["data"][0]["object"], "model");
  EXPECT_EQ(body["data"][0]["created"], 1700000000);
  EXPECT_EQ(body["data"][0]["owned_by"], "troupe");
}

TEST_F(routes_test, a_model_id_with_slashes_can_be_plain_or_escaped) {
  for (const auto* path : {"/v1/models/org/big%20model", "/v1/models/org%2Fbig%20model"}) {
    const auto answer = get(path);
    EXPECT_EQ(answer.status, 200) << path;
    EXPECT_EQ(json::parse(answer.body)["id"], "org/big model");
  }
}

TEST_F(routes_test, an_unknown_model_is_404_model_not_found) {
  const auto answer = get("/v1/models/none");
  EXPECT_EQ(answer.status, 404);
  const auto error = error_of(answer);
  EXPECT_EQ(error["type"], "invalid_request_error");
  EXPECT_EQ(error["code"], "model_not_found");
  EXPECT_EQ(error["param"], "model");
  EXPECT_EQ(error["message"], "The model 'none' does not exist.");
}

TEST_F(routes_test, a_broken_escape_in_a_path_is_400) {
  EXPECT_EQ(get("/v1/models/%zz").status, 400);
  EXPECT_EQ(get("/v1/models/%4").status, 400);
}

TEST_F(routes_test, health_ready_version_and_welcome_answer) {
  EXPECT_EQ(json::parse(get("/health").body)["status"], "ok");
  EXPECT_EQ(get("/ready").status, 200);
  EXPECT_EQ(json::parse(get("/version").body)["version"], TROUPE_VERSION);
  EXPECT_NE(get("/").body.find("/v1/chat/completions"), std::string::npos);
  node.is_ready = false;
  const auto answer = get("/ready");
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(error_of(answer)["code"], "no_capacity");
  EXPECT_EQ(get("/health").status, 200);
}

TEST_F(routes_test, head_answers_like_get_without_a_body) {
  auto client = connect();
  client.send("HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto answer = client.read_reply(true);
  EXPECT_EQ(answer.status, 200);
  EXPECT_GT(std::stoi(answer.headers.at("content-length")), 10);
  EXPECT_EQ(client.get("/health").status, 200); // nothing of a body came in between
}

TEST_F(routes_test, unknown_routes_are_404_and_wrong_methods_405_with_allow) {
  const auto unknown = get("/v1/nothing");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(error_of(unknown)["code"], "unknown_url");
  const auto wrong = get("/v1/chat/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "POST, OPTIONS");
  EXPECT_EQ(error_of(wrong)["code"], "method_not_allowed");
  EXPECT_EQ(post("/v1/models", "{}").headers.at("allow"), "GET, HEAD, OPTIONS");
  auto client = connect();
  client.send("OPTIONS /v1/completions HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto options = client.read_reply();
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(options.headers.at("allow"), "POST, OPTIONS");
}

TEST_F(routes_test, a_sane_request_id_is_echoed_and_another_replaced) {
  EXPECT_EQ(get("/health", "X-Request-Id: trace-17/a\r\n").headers.at("x-request-id"),
            "trace-17/a");
  EXPECT_TRUE(get("/health").headers.at("x-request-id").starts_with("req_"));
  EXPECT_TRUE(
      get("/health", "X-Request-Id: two words\r\n").headers.at("x-request-id").starts_with("req_"));
  EXPECT_TRUE(get("/health", "X-Request-Id: " + std::string(200, 'a') + "\r\n")
                  .headers.at("x-request-id")
                  .starts_with("req_"));
  EXPECT_TRUE(get("/v1/nothing").headers.contains("x-request-id"));
  EXPECT_TRUE(get("/health").headers.contains("openai-processing-ms"));
}

TEST_F(routes_test, other_content_types_are_415_and_an_absent_one_is_taken_for_json) {
  auto client = connect();
  const auto with_type = [&](const std::string& type) {
    client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + type +
                "Content-Length: " + std::to_string(chat_body.size()) + "\r\n\r\n" + chat_body);
    return client.read_reply();
  };
  EXPECT_EQ(with_type("").status, 200);
  EXPECT_EQ(with_type("Content-Type: application/json; charset=utf-8\r\n").status, 200);
  EXPECT_EQ(with_type("Content-Type: Application/JSON\r\n").status, 200);
  const auto form = with_type("Content-Type: application/x-www-form-urlencoded\r\n");
  EXPECT_EQ(form.status, 415);
  EXPECT_EQ(error_of(form)["code"], "unsupported_media_type");
  EXPECT_EQ(with_type("Content-Type: text/plain\r\n").status, 415);
  EXPECT_EQ(with_type("Content-Type: application/json\r\nContent-Encoding: gzip\r\n").status, 415);
}

TEST_F(routes_test, admin_routes_load_unload_and_show) {
  auto loaded = json::parse(post("/admin/models/org/big%20model/load", R"({"pin":true})").body);
  EXPECT_EQ(loaded["state"], "ready");
  EXPECT_EQ(loaded["pinned"], true);
  EXPECT_EQ(json::parse(post("/admin/models/tiny/load", "").body)["pinned"], false);
  EXPECT_EQ(post("/admin/models/tiny/load", R"({"pin":3})").status, 400);
  EXPECT_EQ(json::parse(post("/admin/models/tiny/unload", "").body)["id"], "tiny");
  EXPECT_EQ(post("/admin/models/none/load", "").status, 404);
  const auto models = json::parse(get("/admin/models").body);
  EXPECT_EQ(models["data"][0]["created"], "2023-11-14T22:13:20.000Z");
  EXPECT_TRUE(models["data"][0]["last_used"].is_null());
  const auto actors = json::parse(get("/admin/actors").body);
  EXPECT_EQ(actors["data"][0]["name"], "model:tiny");
  EXPECT_EQ(actors["data"][0]["detail"], "bad \xef\xbf\xbd byte");
}

TEST_F(routes_test, requests_are_explained_by_either_of_their_ids) {
  actors::request_record one;
  one.id.text = "req_1";
  one.answer_id = "chatcmpl-1";
  one.model = {"tiny"};
  one.state = actors::request_state::finished;
  one.forecast = actors::request_forecast{"disk", {0, 2e9, 0, 0, 0}, 0, 0.8, 0.1, 0.9};
  one.load = actors::request_load{{0, 2e9, 0, 0, 0}, {0, 0, 0.9, 0.9, 0.1, 1.0}, ""};
  one.first_token = 1;
  node.records = {one};
  for (const auto* id : {"req_1", "chatcmpl-1"}) {
    const auto found = json::parse(get(std::string{"/admin/requests/"} + id).body);
    EXPECT_EQ(found["id"], "req_1");
    EXPECT_EQ(found["forecast"]["model_state"], "disk");
    EXPECT_EQ(found["load"]["bytes"]["disk"], 2'000'000'000);
    EXPECT_NEAR(found["prediction_error"].get<double>(), -0.1, 1e-9);
  }
  EXPECT_EQ(json::parse(get("/admin/requests").body)["data"][0]["answer_id"], "chatcmpl-1");
  const auto missing = get("/admin/requests/other");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(error_of(missing)["code"], "request_not_found");
  const auto sent = post("/v1/chat/completions",
                         R"({"model":"tiny","messages":[{"role":"user","content":"hi"}]})");
  EXPECT_EQ(json::parse(sent.body)["id"], node.wait_invocation(0)->request.answer_id);
}

TEST_F(routes_test, two_listeners_of_a_node_have_a_part_each_and_count_together) {
  start({.serves = surface::api});
  EXPECT_EQ(get("/admin/models").status, 404);
  EXPECT_EQ(post("/admin/models/tiny/load", "").status, 404);
  EXPECT_EQ(get("/v1/models").status, 200);
  server_options options;
  options.port = 0;
  options.serves = surface::admin;
  auto other = server::start(options, node);
  ASSERT_TRUE(other) << describe(other.error());
  http_client admin{(*other)->port()};
  EXPECT_EQ(admin.get("/admin/models").status, 200);
  EXPECT_EQ(admin.get("/v1/models").status, 404);
  EXPECT_EQ(admin.post("/v1/chat/completions", chat_body).status, 404);
  EXPECT_EQ(admin.get("/").body.find("/v1/"), std::string::npos);
  EXPECT_EQ(get("/").body.find("/admin"), std::string::npos);
  auto user = connect();
  for (auto* client : {&admin, &user})
    for (const auto* path : {"/health", "/ready", "/version"})
      EXPECT_EQ(client->get(path).status, 200);
  const auto page = user.get("/metrics").body;
  for (const auto* line : {R"(troupe_http_requests_total{code="200",route="/health"} 2)",
                           R"(troupe_http_requests_total{code="200",route="/admin/models"} 1)",
                           "troupe_http_connections 2"})
    EXPECT_NE(page.find(line), std::string::npos) << line << " is not in\n" << page;
  other->reset();
  EXPECT_EQ(user.get("/metrics").status, 200) << "what the other counted is still there";
}

TEST_F(routes_test, tokenize_reports_a_broken_model_and_wrong_requests) {
  const auto broken = post("/tokenize", R"({"model":"tiny","prompt":"a"})");
  EXPECT_EQ(broken.status, 500);
  EXPECT_EQ(error_of(broken)["message"], "tokenizer.json is cut short");
  EXPECT_EQ(post("/tokenize", R"({"model":"none","prompt":"a"})").status, 404);
  EXPECT_EQ(error_of(post("/tokenize", R"({"model":"tiny"})"))["code"],
            "missing_required_parameter");
  EXPECT_EQ(error_of(post("/detokenize", R"({"model":"tiny","tokens":[1,-2]})"))["param"],
            "tokens");
  EXPECT_EQ(post("/detokenize", R"({"model":"tiny","tokens":"1"})").status, 400);
}

TEST_F(routes_test, tokenize_and_detokenize_use_the_models_tokenizer) {
  auto parsed = engine::tokenizer::parse(
      R"({"version":"1.0","added_tokens":[{"id":3,"content":"<s>","special":true,)"
      R"("single_word":false,"lstrip":false,"rstrip":false,"normalized":false}],)"
      R"("normalizer":null,"pre_tokenizer":null,"decoder":{"type":"Fuse"},"post_processor":)"
      R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},)"
      R"({"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":)"
      R"({"<s>":{"id":"<s>","ids":[3],"tokens":["<s>"]}}},"model":)"
      R"({"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})",
      "tokenizer.json");
  ASSERT_TRUE(parsed) << describe(parsed.error());
  auto text = std::make_shared<engine::frontend>();
  text->tokens = *parsed;
  text->context_length = 512;
  node.text = text;
  EXPECT_EQ(post("/tokenize", R"({"model":"tiny","prompt":"abba"})").body,
            R"({"count":4,"max_model_len":512,"tokens":[3,2,1,0]})");
  EXPECT_EQ(json::parse(
                post("/tokenize", R"({"model":"tiny","prompt":"abba","add_special_tokens":false})")
                    .body)["tokens"],
            json::parse("[2,1,0]"));
  EXPECT_EQ(post("/detokenize", R"({"model":"tiny","tokens":[3,2,1,0]})").body,
            R"({"prompt":"<s>abba"})");
  EXPECT_EQ(
      post("/detokenize", R"({"model":"tiny","tokens":[3,2],"skip_special_tokens":true})").body,
      R"({"prompt":"ab"})");
  EXPECT_EQ(error_of(post("/detokenize", R"({"model":"tiny","tokens":[99]})"))["param"], "tokens");
}

TEST_F(routes_test, metrics_count_requests_by_route_and_status) {
  get("/health");
  get("/v1/models/none");
  const auto answer = get("/metrics");
  EXPECT_TRUE(answer.headers.at("content-type").starts_with("text/plain; version=0.0.4"));
  EXPECT_NE(answer.body.find(R"(troupe_http_requests_total{code="200",route="/health"} 1)"),
            std::string::npos)
      << answer.body;
  EXPECT_NE(answer.body.find(R"(troupe_http_requests_total{code="404",route="/v1/models/{id}"} 1)"),
            std::string::npos);
  EXPECT_NE(answer.body.find("troupe_http_request_duration_seconds_bucket"), std::string::npos);
  EXPECT_NE(answer.body.find("troupe_http_requests_in_flight 1"), std::string::npos);
}

TEST_F(routes_test, a_taken_port_is_an_error_that_names_it) {
  auto second = server::start({.port = edge->port()}, node);
  ASSERT_FALSE(second);
  EXPECT_NE(describe(second.error()).find(":" + std::to_string(edge->port())), std::string::npos);
  EXPECT_FALSE(server::start({.host = "no such host", .port = 0}, node));
}

TEST_F(routes_test, draining_refuses_work_and_closes_connections) {
  auto client = connect();
  EXPECT_EQ(client.get("/health").status, 200);
  edge->drain();
  const auto refused = client.post("/v1/chat/completions", chat_body);
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(error_of(refused)["code"], "shutting_down");
  EXPECT_EQ(refused.headers.at("connection"), "close");
  EXPECT_EQ(refused.headers.at("retry-after"), "5");
  EXPECT_EQ(refused.headers.at("retry-after-ms"), "5000");
  EXPECT_TRUE(client.closed());
  EXPECT_EQ(get("/health").status, 200);
  EXPECT_EQ(get("/ready").status, 503);
}

} // namespace troupe::gateway::test

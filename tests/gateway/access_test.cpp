// Keys, tenants and their limits over HTTP.
#include "gateway_fixture.hpp"

#include "gateway/access.hpp"

namespace troupe::gateway::test {
namespace {

actors::access_key key(const std::string& text, std::optional<actors::wall_time> expires = {}) {
  return {sha256(text), "test", expires};
}

std::string bearer(const std::string& text) { return "Authorization: Bearer " + text + "\r\n"; }

class access_test : public gateway_fixture {
protected:
  void SetUp() override {}
  void serve(std::vector<actors::tenant_terms> tenants,
             std::vector<actors::access_key> admin = {}) {
    server_options options;
    options.tenants = std::make_shared<const actors::tenant_registry>(
        std::move(tenants), "anonymous", std::move(admin));
    start(options);
  }
  static actors::tenant_terms acme(policies::quota_limits limits = {}) {
    actors::tenant_terms out{.name = "acme"};
    out.keys = {key("k-acme"), key("k-old", actors::wall_time{} + 1s)};
    out.limits = limits;
    return out;
  }
};

TEST_F(access_test, without_keys_nobody_is_asked_for_one) {
  serve({});
  const auto answer = post("/v1/chat/completions", chat_body, bearer("anything"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(node.wait_invocation(0)->request.tenant, "anonymous");
  EXPECT_FALSE(answer.headers.contains("x-ratelimit-limit-requests"));
}

TEST_F(access_test, with_keys_every_route_but_those_for_load_balancers_needs_one) {
  serve({acme()}, {key("k-admin")});
  for (const auto* path : {"/health", "/ready"})
    EXPECT_EQ(get(path).status, 200) << path;
  for (const auto* path : {"/v1/models", "/v1/models/tiny", "/metrics", "/version", "/",
                           "/admin/models", "/admin/tenants"}) {
    const auto answer = get(path);
    EXPECT_EQ(answer.status, 401) << path;
    EXPECT_EQ(error_of(answer)["type"], "authentication_error");
    EXPECT_EQ(answer.headers.at("www-authenticate"), "Bearer");
  }
  for (const auto* path : {"/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize",
                           "/admin/models/tiny/load"})
    EXPECT_EQ(post(path, chat_body).status, 401) << path;
  EXPECT_EQ(node.invocation_count(), 0u);
}

TEST_F(access_test, wrong_and_expired_keys_are_told_apart) {
  serve({acme()});
  const auto wrong = get("/v1/models", bearer("k-acm"));
  EXPECT_EQ(wrong.status, 401);
  EXPECT_EQ(error_of(wrong)["code"], "invalid_api_key");
  EXPECT_EQ(wrong.body.find("k-acm"), std::string::npos) << "no answer repeats a key";
  EXPECT_NE(
      error_of(get("/v1/models", bearer("k-old")))["message"].get<std::string>().find("expired"),
      std::string::npos);
  EXPECT_EQ(error_of(get("/v1/models", "Authorization: Basic azph\r\n"))["code"],
            "missing_api_key");
  EXPECT_EQ(get("/v1/models", "authorization: bearer   k-acme \r\n").status, 200);
}

TEST_F(access_test, administration_needs_an_admin_key) {
  serve({acme()}, {key("k-admin")});
  const auto answer = get("/admin/models", bearer("k-acme"));
  EXPECT_EQ(answer.status, 403);
  EXPECT_EQ(error_of(answer)["type"], "permission_error");
  EXPECT_EQ(get("/admin/models", bearer("k-admin")).status, 200);
  EXPECT_EQ(get("/metrics", bearer("k-admin")).status, 200);
  EXPECT_EQ(get("/metrics", bearer("k-acme")).status, 403) << "it names other tenants";
}

TEST_F(access_test, metrics_can_be_opened_to_all) {
  server_options options;
  options.tenants = std::make_shared<const actors::tenant_registry>(std::vector{acme()});
  options.metrics_open = true;
  start(options);
  EXPECT_EQ(get("/metrics").status, 200);
  EXPECT_EQ(get("/version").status, 401);
}

TEST_F(access_test, a_request_carries_its_tenants_terms) {
  auto terms = acme();
  terms.weight = 4;
  terms.priority = policies::fair_priority::batch;
  terms.max_tokens = 50;
  terms.may_use = [](const std::string& model) { return model == "tiny"; };
  serve({terms});
  EXPECT_EQ(post("/v1/chat/completions", chat_body, bearer("k-acme")).status, 200);
  const auto& sent = node.wait_invocation(0)->request;
  EXPECT_EQ(sent.tenant, "acme");
  EXPECT_EQ(sent.tenant_weight, 4);
  EXPECT_EQ(sent.priority, policies::fair_priority::batch);
  EXPECT_EQ(sent.sampling.max_tokens_allowed, 50u);
  const auto other = post(
      "/v1/chat/completions",
      R"({"model":"org/big model","messages":[{"role":"user","content":"Hi"}]})", bearer("k-acme"));
  EXPECT_EQ(other.status, 403);
  EXPECT_EQ(error_of(other)["code"], "model_not_allowed");
  EXPECT_EQ(get("/v1/models/org%2Fbig%20model", bearer("k-acme")).status, 403);
  EXPECT_EQ(
      post("/tokenize", R"({"model":"org/big model","prompt":"Hi"})", bearer("k-acme")).status,
      403);
  const auto listed = json::parse(get("/v1/models", bearer("k-acme")).body)["data"];
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0]["id"], "tiny");
  const auto longer =
      post("/v1/chat/completions",
           R"({"model":"tiny","max_tokens":51,"messages":[{"role":"user","content":"Hi"}]})",
           bearer("k-acme"));
  EXPECT_EQ(longer.status, 400);
  EXPECT_EQ(error_of(longer)["param"], "max_tokens");
}

TEST_F(access_test, requests_per_minute_end_in_429_with_a_time_and_six_headers) {
  serve({acme({.rpm = 2, .tpm = 10'000})});
  for (int left = 1; left >= 0; --left) {
    const auto answer = post("/v1/chat/completions", chat_body, bearer("k-acme"));
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.headers.at("x-ratelimit-limit-requests"), "2");
    EXPECT_EQ(answer.headers.at("x-ratelimit-remaining-requests"), std::to_string(left));
    EXPECT_EQ(answer.headers.at("x-ratelimit-limit-tokens"), "10000");
    for (const auto* name :
         {"x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"})
      EXPECT_TRUE(answer.headers.contains(name)) << name;
  }
  const auto refused = post("/v1/chat/completions", chat_body, bearer("k-acme"));
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(error_of(refused)["type"], "rate_limit_error");
  EXPECT_EQ(error_of(refused)["code"], "rate_limit_exceeded");
  EXPECT_EQ(refused.headers.at("x-ratelimit-remaining-requests"), "0");
  const auto wait = std::stoi(refused.headers.at("retry-after"));
  EXPECT_GT(wait, 40);
  EXPECT_LE(wait, 60);
}

TEST_F(access_test, tokens_are_reserved_before_and_settled_after) {
  serve({acme({.rpm = 0, .tpm = 100})});
  const std::string body = R"({"model":"tiny","max_tokens":60,"stream":true,)"
                           R"("messages":[{"role":"user","content":"Hi"}]})";
  // 7 of the prompt and 60 are reserved; 7 + 3 are used.
  const auto first = post("/v1/chat/completions", body, bearer("k-acme"));
  EXPECT_EQ(first.status, 200);
  EXPECT_EQ(first.headers.at("x-ratelimit-remaining-tokens"), "33");
  const auto second = post("/v1/chat/completions", body, bearer("k-acme"));
  EXPECT_EQ(second.headers.at("x-ratelimit-remaining-tokens"), "23") << "90 were left";
  node.set_script([](invocation& one) { one.sink->on_accepted(7); }); // goes on running
  auto held = connect();
  held.send(format_post("/v1/chat/completions", body, bearer("k-acme")));
  ASSERT_TRUE(node.wait_invocation(2));
  held.read_until("\r\n\r\n");
  const auto refused = post("/v1/chat/completions", body, bearer("k-acme"));
  EXPECT_EQ(refused.status, 429) << "a stream that is refused has its own status";
  EXPECT_EQ(refused.headers.at("x-ratelimit-remaining-tokens"), "13");
  EXPECT_TRUE(node.wait_invocation(3)->wait_cancelled());
  const auto hopeless =
      post("/v1/chat/completions",
           R"({"model":"tiny","max_tokens":94,"messages":[{"role":"user","content":"Hi"}]})",
           bearer("k-acme"));
  EXPECT_EQ(hopeless.status, 429);
  EXPECT_EQ(hopeless.headers.at("x-should-retry"), "false");
  EXPECT_FALSE(hopeless.headers.contains("retry-after"));
}

TEST_F(access_test, requests_at_a_time_are_counted_until_they_end) {
  serve({acme({.rpm = 0, .tpm = 0, .concurrency = 1})});
  node.set_script([](invocation& one) { one.sink->on_accepted(7); });
  auto first = connect();
  first.send(format_post("/v1/chat/completions", chat_body, bearer("k-acme")));
  const auto running = node.wait_invocation(0);
  ASSERT_TRUE(running);
  const auto refused = post("/v1/chat/completions", chat_body, bearer("k-acme"));
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(error_of(refused)["code"], "concurrency_limit");
  node.post([running] { running->sink->on_done({7, 0, 0}, {}); });
  EXPECT_EQ(first.read_reply().status, 200);
  node.set_script(fake_services::answer_hello);
  EXPECT_EQ(post("/v1/chat/completions", chat_body, bearer("k-acme")).status, 200);
}

TEST_F(access_test, in_shadow_mode_what_would_be_refused_is_counted) {
  auto terms = acme({.rpm = 1, .tpm = 5});
  terms.enforce = false;
  serve({terms}, {key("k-admin")});
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(post("/v1/chat/completions", chat_body, bearer("k-acme")).status, 200);
  const auto list = json::parse(get("/admin/tenants", bearer("k-admin")).body)["data"];
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0]["name"], "acme");
  EXPECT_EQ(list[0]["mode"], "shadow");
  EXPECT_GE(list[0]["refused"], 3);
}

/// Answers with a token at a time until the test ends it, as a node does.
void answer_tokens(invocation& one, uint32_t tokens) {
  one.sink->on_accepted(7);
  for (uint32_t i = 1; i <= tokens && !one.is_cancelled(); ++i) {
    one.sink->on_token({7, i, 0});
    one.sink->on_text({0, "x", {}});
  }
  one.sink->on_finish(0, engine::finish_reason::stop);
  one.sink->on_done({7, tokens, 0}, {});
}

TEST_F(access_test, a_stream_ends_at_the_token_that_spends_the_budget) {
  auto terms = acme();
  terms.budget = {
      .limit = 17, .soft = 0, .period = {policies::budget_period::kind::month, 0}, .prices = {}};
  serve({terms}, {key("k-admin")});
  node.set_script([](invocation& one) { answer_tokens(one, 50); });
  const std::string body = R"({"model":"tiny","stream":true,"stream_options":{"include_usage":)"
                           R"(true},"messages":[{"role":"user","content":"Hi"}]})";
  const auto answer = post("/v1/chat/completions", body, bearer("k-acme"));
  EXPECT_EQ(answer.status, 200);
  const auto count = [&](const std::string& what) {
    size_t out = 0;
    for (auto at = answer.body.find(what); at != std::string::npos;
         at = answer.body.find(what, at + 1))
      ++out;
    return out;
  };
  EXPECT_EQ(count(R"("content":"x")"), 10u) << answer.body;
  EXPECT_EQ(count(R"("finish_reason":"length")"), 1u);
  EXPECT_EQ(count(R"("completion_tokens":10)"), 1u);
  EXPECT_EQ(count(R"("code":"insufficient_quota")"), 1u);
  EXPECT_TRUE(answer.body.ends_with("data: [DONE]\n\n"));
  EXPECT_TRUE(node.wait_invocation(0)->wait_cancelled());
  const auto refused = post("/v1/chat/completions", chat_body, bearer("k-acme"));
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(error_of(refused)["type"], "insufficient_quota");
  EXPECT_EQ(refused.headers.at("x-should-retry"), "false");
  EXPECT_FALSE(refused.headers.contains("retry-after"));
  EXPECT_EQ(node.invocation_count(), 1u);
  const auto shown = json::parse(get("/admin/tenants", bearer("k-admin")).body)["data"][0];
  EXPECT_EQ(shown["budget"]["spent"], 17);
}

TEST_F(access_test, a_whole_answer_that_is_cut_short_is_what_was_paid_for) {
  auto terms = acme();
  terms.budget = {
      .limit = 10, .soft = 0, .period = {policies::budget_period::kind::day, 0}, .prices = {}};
  serve({terms});
  node.set_script([](invocation& one) { answer_tokens(one, 50); });
  const auto answer = post("/v1/chat/completions", chat_body, bearer("k-acme"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("x-troupe-cut-short"), "insufficient_quota");
  const auto body = json::parse(answer.body);
  EXPECT_EQ(body["choices"][0]["message"]["content"], "xxx");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(body["usage"]["completion_tokens"], 3);
}

TEST_F(access_test, a_prompt_beyond_the_budget_is_not_computed) {
  auto terms = acme();
  terms.budget = {
      .limit = 6, .soft = 0, .period = {policies::budget_period::kind::day, 0}, .prices = {}};
  serve({terms});
  node.set_script([](invocation& one) { answer_tokens(one, 50); });
  EXPECT_EQ(post("/v1/chat/completions", chat_body, bearer("k-acme")).status, 429);
  EXPECT_TRUE(node.wait_invocation(0)->wait_cancelled());
  terms.enforce = false;
  serve({terms});
  EXPECT_EQ(post("/v1/chat/completions", chat_body, bearer("k-acme")).status, 200);
}

TEST_F(access_test, what_the_scheduler_refuses_for_a_tenants_sake_is_429_and_counted) {
  using policies::quota_kind;
  auto terms = acme({.rpm = 0, .tpm = 1000});
  terms.caps = {.queue = 5, .warm_models = 2, .memory_bytes = 100, .cold_starts_per_hour = 3};
  serve({terms}, {key("k-admin")});
  const struct {
    quota_kind limit;
    std::optional<std::chrono::seconds> wait;
    const char* code;
    const char* retry;
  } cases[] = {{quota_kind::queue, 2s, "queue_limit", "2"},
               {quota_kind::warm_models, 5s, "warm_models_limit", "5"},
               {quota_kind::memory, std::nullopt, "memory_limit", nullptr},
               {quota_kind::cold_starts, 2400s, "cold_starts_limit", "2400"}};
  for (const auto& x : cases) {
    node.set_script([&x](invocation& one) {
      one.sink->on_accepted(7);
      one.sink->on_failure(
          {actors::failure_kind::tenant_cap, "'acme' has enough.", {}, x.wait, x.limit});
    });
    const auto answer = post("/v1/chat/completions", chat_body, bearer("k-acme"));
    EXPECT_EQ(answer.status, 429);
    EXPECT_EQ(error_of(answer)["type"], "rate_limit_error");
    EXPECT_EQ(error_of(answer)["code"], x.code);
    EXPECT_EQ(answer.headers.contains("retry-after"), x.retry != nullptr);
    if (x.retry) {
      EXPECT_EQ(answer.headers.at("retry-after"), x.retry);
    }
    // Clients try again at once when told to wait longer than two minutes.
    EXPECT_EQ(answer.headers.contains("x-should-retry"), !x.wait || *x.wait > 120s);
  }
  const auto sent = node.wait_invocation(0)->request.caps;
  EXPECT_EQ(sent.queue, 5u);
  EXPECT_EQ(sent.cold_starts_per_hour, 3u);
  EXPECT_TRUE(sent.enforce);
  const auto shown = json::parse(get("/admin/tenants", bearer("k-admin")).body)["data"][0];
  EXPECT_EQ(shown["refused"], 4);
  EXPECT_EQ(shown["refused_by"]["cold_starts_per_hour"], 1);
  EXPECT_EQ(shown["limits"]["vram"], 100);
  const auto page = get("/metrics", bearer("k-admin")).body;
  for (const auto* limit : {"queue", "warm_models", "vram", "cold_starts_per_hour"})
    EXPECT_NE(page.find("troupe_tenant_limited_total{tenant=\"acme\",limit=\"" +
                        std::string{limit} + "\"} 1"),
              std::string::npos)
        << page;
  node.set_script(fake_services::answer_hello);
  const auto after = post("/v1/chat/completions", chat_body, bearer("k-acme"));
  EXPECT_EQ(after.headers.at("x-ratelimit-remaining-tokens"), "743")
      << "7 and a quarter of a minute are reserved for this one; what was refused cost nothing";
}

TEST_F(access_test, caps_that_are_only_watched_are_counted_and_nothing_else) {
  auto terms = acme();
  terms.caps = {.queue = 1};
  terms.max_tokens = 5;
  terms.enforce = false;
  serve({terms}, {key("k-admin")});
  node.set_script([](invocation& one) {
    one.sink->on_watched(policies::quota_kind::queue);
    fake_services::answer_hello(one);
  });
  EXPECT_EQ(post("/v1/chat/completions",
                 R"({"model":"tiny","max_tokens":6,"messages":[{"role":"user","content":"Hi"}]})",
                 bearer("k-acme"))
                .status,
            200);
  EXPECT_FALSE(node.wait_invocation(0)->request.caps.enforce);
  const auto shown = json::parse(get("/admin/tenants", bearer("k-admin")).body)["data"][0];
  EXPECT_EQ(shown["refused_by"], (json{{"max_tokens", 1}, {"queue", 1}}));
}

TEST_F(access_test, the_soft_limit_of_a_budget_is_seen_by_client_and_operator) {
  auto terms = acme();
  terms.budget = {
      .limit = 20, .soft = 0.8, .period = {policies::budget_period::kind::month, 0}, .prices = {}};
  serve({terms}, {key("k-admin")});
  EXPECT_FALSE(post("/v1/chat/completions", chat_body, bearer("k-acme"))
                   .headers.contains("x-troupe-budget-warning"))
      << "7 + 3 of 20 are spent";
  post("/v1/chat/completions", chat_body, bearer("k-acme"));
  EXPECT_EQ(get("/v1/models", bearer("k-acme")).headers.at("x-troupe-budget-warning"),
            "100% of the budget is spent");
  EXPECT_EQ(
      json::parse(get("/admin/tenants", bearer("k-admin")).body)["data"][0]["budget"]["past_soft"],
      true);
  EXPECT_NE(get("/metrics", bearer("k-admin"))
                .body.find("troupe_tenant_budget_spent_ratio{tenant=\"acme\"} 1"),
            std::string::npos);
}

TEST_F(access_test, keys_appear_nowhere) {
  serve({acme({.rpm = 100})}, {key("k-admin")});
  post("/v1/chat/completions", chat_body, bearer("k-acme"));
  for (const auto* path : {"/metrics", "/admin/tenants", "/admin/actors", "/admin/models"}) {
    const auto page = get(path, bearer("k-admin")).body;
    EXPECT_EQ(page.find("k-acme"), std::string::npos) << path;
    EXPECT_EQ(page.find(to_hex(sha256("k-acme"))), std::string::npos) << path;
  }
  const auto used = json::parse(get("/admin/tenants", bearer("k-admin")).body)["data"][0];
  EXPECT_EQ(used["prompt_tokens"], 7);
  EXPECT_EQ(used["completion_tokens"], 3);
}

TEST(reset_text, writes_times_as_the_openai_api_does) {
  EXPECT_EQ(reset_text(1s), "1s");
  EXPECT_EQ(reset_text(6min), "6m0s");
  EXPECT_EQ(reset_text(250ms), "250ms");
  EXPECT_EQ(reset_text(0s), "0ms");
  EXPECT_EQ(reset_text(90s + 500ms), "1m30.5s");
  EXPECT_EQ(reset_text(1ns), "1ms") << "never too early";
}

} // namespace
} // namespace troupe::gateway::test

// Keys that come and go while the server runs, and the configuration over HTTP.
#include "gateway_fixture.hpp"

namespace troupe::gateway::test {
namespace {

actors::access_key key(const std::string& text) { return {sha256(text), "test", {}}; }

std::string bearer(const std::string& text) { return "Authorization: Bearer " + text + "\r\n"; }

class live_test : public gateway_fixture {
protected:
  void SetUp() override {}
};

actors::issued_key issued(const std::string& text, std::string tenant = "acme") {
  return {"id-" + text, std::move(tenant), key(text), {}, false};
}

TEST_F(live_test, keys_are_issued_and_revoked_while_it_runs) {
  const auto tenants = std::make_shared<actors::tenant_registry>(
      std::vector{actors::tenant_terms{.name = "acme"}}, "anonymous");
  server_options options;
  options.tenants = tenants;
  start(options);
  EXPECT_EQ(get("/v1/models").status, 200);
  tenants->issue({issued("k-1"), issued("k-2"), issued("k-admin", ""), issued("k-gone", "other")});
  EXPECT_EQ(get("/v1/models").status, 401) << "from the first key on, everybody needs one";
  EXPECT_EQ(post("/v1/chat/completions", chat_body, bearer("k-1")).status, 200);
  EXPECT_EQ(node.wait_invocation(0)->request.tenant, "acme");
  EXPECT_EQ(get("/v1/models", bearer("k-gone")).status, 401) << "its tenant is not here";
  EXPECT_EQ(get("/admin/models", bearer("k-2")).status, 403);
  const auto listed = json::parse(get("/admin/tenants", bearer("k-admin")).body)["data"];
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0]["keys"].size(), 2u);
  auto revoked = issued("k-1");
  revoked.revoked = true;
  tenants->issue({revoked, issued("k-2"), issued("k-admin", "")});
  const auto refused = get("/v1/models", bearer("k-1"));
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(error_of(refused)["code"], "invalid_api_key");
  EXPECT_NE(error_of(refused)["message"].get<std::string>().find("revoked"), std::string::npos);
  EXPECT_EQ(get("/v1/models", bearer("k-2")).status, 200);
}

TEST_F(live_test, revoking_the_last_key_lets_nobody_in) {
  const auto tenants = std::make_shared<actors::tenant_registry>(
      std::vector{actors::tenant_terms{.name = "acme"}}, "anonymous");
  auto last = issued("k-1");
  last.revoked = true;
  tenants->issue({last});
  EXPECT_FALSE(tenants->open());
  tenants->apply({}, "anonymous", {});
  EXPECT_FALSE(tenants->open()) << "a file that lost its tenants opens nothing either";
  EXPECT_EQ(tenants->authenticate("", {}).what, actors::tenant_registry::verdict::no_key);
}

TEST_F(live_test, a_stream_goes_on_when_its_key_is_revoked) {
  const auto tenants = std::make_shared<actors::tenant_registry>(
      std::vector{actors::tenant_terms{.name = "acme"}}, "anonymous");
  tenants->issue({issued("k-1")});
  server_options options;
  options.tenants = tenants;
  start(options);
  node.set_script([](invocation& one) { one.sink->on_accepted(7); });
  auto client = connect();
  client.send(format_post("/v1/chat/completions", chat_stream_body, bearer("k-1")));
  const auto running = node.wait_invocation(0);
  ASSERT_TRUE(running);
  auto revoked = issued("k-1");
  revoked.revoked = true;
  tenants->issue({revoked});
  node.post([running] { fake_services::answer_hello(*running); });
  EXPECT_TRUE(client.read_until("data: [DONE]").ends_with("data: [DONE]"));
  EXPECT_FALSE(running->is_cancelled());
  EXPECT_EQ(post("/v1/chat/completions", chat_body, bearer("k-1")).status, 401);
}

TEST_F(live_test, a_key_may_reach_less_far_than_its_tenant) {
  const auto tenants = std::make_shared<actors::tenant_registry>(
      std::vector{actors::tenant_terms{.name = "acme"}}, "anonymous");
  auto narrow = issued("k-1");
  narrow.may_use = [](const std::string& model) { return model != "tiny"; };
  tenants->issue({narrow, issued("k-2")});
  server_options options;
  options.tenants = tenants;
  start(options);
  const auto refused = post("/v1/chat/completions", chat_body, bearer("k-1"));
  EXPECT_EQ(refused.status, 403);
  EXPECT_EQ(error_of(refused)["code"], "model_not_allowed");
  EXPECT_NE(error_of(refused)["message"].get<std::string>().find("This API key"),
            std::string::npos);
  EXPECT_EQ(get("/v1/models/tiny", bearer("k-1")).status, 403);
  const auto count = [&](const char* who) {
    return json::parse(get("/v1/models", bearer(who)).body)["data"].size();
  };
  EXPECT_EQ(count("k-1") + 1, count("k-2"));
  EXPECT_EQ(post("/v1/chat/completions", chat_body, bearer("k-2")).status, 200);
}

/// Answers at once, and notes what it was given.
struct fake_configuration : configuration {
  void show(std::function<void(std::string)> then) override { then("role: all\n"); }
  void put(std::string text, bool save, std::function<void(config_outcome)> then) override {
    given = std::move(text);
    saved = save;
    then(outcome);
  }
  std::string given;
  bool saved = false;
  config_outcome outcome{};
};

std::string format_put(const std::string& query, const std::string& headers) {
  return "PUT /admin/config" + query + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n" + headers +
         "\r\na: b\n";
}

TEST_F(live_test, the_configuration_is_shown_and_put_by_the_administrator) {
  const auto config = std::make_shared<fake_configuration>();
  server_options options;
  options.config = config;
  options.tenants = std::make_shared<const actors::tenant_registry>(
      std::vector{actors::tenant_terms{.name = "acme", .keys = {key("k-acme")}}}, "anonymous",
      std::vector{key("k-admin")});
  start(options);
  const auto put = [&](const std::string& query, const std::string& headers) {
    auto client = connect();
    client.send(format_put(query, headers));
    return client.read_reply();
  };
  EXPECT_EQ(get("/admin/config").status, 401);
  EXPECT_EQ(get("/admin/config", bearer("k-acme")).status, 403);
  const auto shown = get("/admin/config", bearer("k-admin"));
  EXPECT_EQ(shown.body, "role: all\n");
  EXPECT_EQ(shown.headers.at("content-type"), "application/yaml");
  EXPECT_EQ(put("", bearer("k-acme")).status, 403);
  EXPECT_EQ(config->given, "");
  config->outcome.tenants = 3;
  config->outcome.saved = true;
  config->outcome.not_applied = {"listen"};
  const auto done = put("?save=true", bearer("k-admin"));
  EXPECT_EQ(done.status, 200);
  EXPECT_EQ(done.body, R"({"object":"config","tenants":3,"saved":true,"not_applied":["listen"]})");
  EXPECT_EQ(config->given, "a: b\n");
  EXPECT_TRUE(config->saved);
  config->outcome.status = 400;
  config->outcome.problem = "body:1:1: no";
  const auto refused = put("?save=false", bearer("k-admin"));
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(error_of(refused)["code"], "invalid_config");
  EXPECT_EQ(put("?save=1", bearer("k-admin")).status, 400);
  options.tenants = std::make_shared<const actors::tenant_registry>();
  start(options);
  config->outcome = {};
  EXPECT_EQ(put("", "").status, 200);
  EXPECT_EQ(put("?save=true", "").status, 403) << "files are not changed for just anybody";
  options.config = nullptr;
  start(options);
  EXPECT_EQ(error_of(get("/admin/config"))["code"], "no_configuration");
}

} // namespace
} // namespace troupe::gateway::test

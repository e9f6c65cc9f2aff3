#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/layers.hpp"

namespace troupe::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string hash(64, 'a');

layers read(const std::string& text) {
  layers out;
  out.file(text, "troupe.yaml", "/etc/troupe");
  out.check();
  return out;
}

TEST(tenants, budgets_are_read) {
  const auto all = read("tenants: {a: {budget: {tokens: 50M, per: 30d, soft: 80%, "
                        "cost: 'input + 4*output+0.1 * cached'}}, b: {budget: {tokens: 9, per: "
                        "week, cost: output}}}");
  ASSERT_TRUE(all.problems().empty()) << to_string(all.problems()[0]);
  const auto& a = all.values().tenants[0].budget;
  EXPECT_EQ(a.tokens, 50'000'000u);
  EXPECT_EQ(a.hours, 720u);
  EXPECT_EQ(a.soft_percent, 80u);
  EXPECT_EQ(std::tuple(a.input, a.cached, a.output), std::tuple(1, 0.1, 4));
  const auto& b = all.values().tenants[1].budget;
  EXPECT_EQ(b.per, "week");
  EXPECT_EQ(std::tuple(b.input, b.cached, b.output), std::tuple(0, 0, 1));
  const auto again = read(show(all.values(), nullptr));
  EXPECT_TRUE(again.problems().empty()) << to_string(again.problems()[0]);
  EXPECT_EQ(show(again.values(), nullptr), show(all.values(), nullptr));
}

TEST(tenants, a_budget_that_makes_no_sense_is_said) {
  const auto problem = [](const std::string& budget, const std::string& more = {}) {
    const auto all = read(more + "tenants: {a: {budget: {" + budget + "}}}");
    return all.problems().empty() ? std::string{} : to_string(all.problems()[0]);
  };
  EXPECT_THAT(problem("tokens: 1M"), HasSubstr("takes tokens and per"));
  EXPECT_THAT(problem("tokens: 1M, per: year"), HasSubstr("day, week or month"));
  EXPECT_THAT(problem("tokens: 1M, per: 90min"), HasSubstr("whole hours"));
  EXPECT_THAT(problem("tokens: 1M, per: day, soft: 120%"), HasSubstr("80%"));
  for (const auto* cost : {"''", "input input", "2*", "input + input", "0*output", "-1*input",
                           "input - output", "price", "input +"})
    EXPECT_THAT(problem("tokens: 1M, per: day, cost: " + std::string{cost}),
                testing::Not(testing::IsEmpty()))
        << cost;
  EXPECT_THAT(problem("tokens: 1M, per: day", "state_dir: false\n"), HasSubstr("outlive"));
}

TEST(tenants, everything_that_can_be_said_is_read) {
  const auto all =
      read(R"(
admin_keys: [{env: TROUPE_ADMIN_KEY}]
default_tenant: guests
tenants:
  acme:
    keys: [{hash: "sha256:)" +
           hash + R"(", name: ci, expires: 2027-01-01}, {env: ACME_KEY}, {file: acme.key}]
    models: ["qwen*", "phi-3-mini"]
    weight: 2.5
    priority: interactive
    limits: {rpm: 600, tpm: 200k, concurrency: 32, max_tokens: 8192,
             queue: 200, warm_models: 3, vram: 24GiB, cold_starts_per_hour: 60}
    mode: shadow
  guests:
    weight: 1
)");
  ASSERT_TRUE(all.problems().empty()) << to_string(all.problems()[0]);
  const auto& v = all.values();
  EXPECT_EQ(v.default_tenant, "guests");
  ASSERT_EQ(v.admin_keys.size(), 1u);
  EXPECT_EQ(v.admin_keys[0].env, "TROUPE_ADMIN_KEY");
  ASSERT_EQ(v.tenants.size(), 2u);
  const auto& acme = v.tenants[0];
  EXPECT_EQ(acme.name, "acme");
  ASSERT_EQ(acme.keys.size(), 3u);
  EXPECT_EQ(acme.keys[0].hash, "sha256:" + hash);
  EXPECT_EQ(acme.keys[0].name, "ci");
  EXPECT_EQ(acme.keys[0].expires,
            std::chrono::sys_days{std::chrono::year{2027} / std::chrono::January / 1});
  EXPECT_EQ(acme.keys[2].file, "/etc/troupe/acme.key");
  EXPECT_THAT(acme.models, ElementsAre("qwen*", "phi-3-mini"));
  EXPECT_EQ(acme.weight, 2.5);
  EXPECT_EQ(acme.priority, "interactive");
  EXPECT_EQ(acme.rpm, 600u);
  EXPECT_EQ(acme.tpm, 200'000u);
  EXPECT_EQ(acme.concurrency, 32u);
  EXPECT_EQ(acme.max_tokens, 8192u);
  EXPECT_EQ(acme.queue, 200u);
  EXPECT_EQ(acme.warm_models, 3u);
  EXPECT_EQ(acme.vram, uint64_t{24} << 30);
  EXPECT_EQ(acme.cold_starts_per_hour, 60u);
  EXPECT_FALSE(acme.enforce);
  EXPECT_TRUE(v.tenants[1].enforce);
}

TEST(tenants, what_is_shown_can_be_read_again) {
  const auto first =
      read("tenants: {'a b': {}, acme: {keys: [{hash: 'sha256:" + hash +
           "', expires: '2027-01-01T10:30:00Z'}], weight: 0.5, limits: {tpm: 1M, queue: 7, "
           "warm_models: 2, vram: 1.5GiB, cold_starts_per_hour: 9}}}");
  const auto shown = show(first.values(), nullptr);
  const auto second = read(shown);
  EXPECT_EQ(show(second.values(), nullptr), shown);
  EXPECT_THAT(shown, HasSubstr("2027-01-01T10:30:00.000Z"));
  EXPECT_THAT(shown, HasSubstr("tpm: 1000000, queue: 7, warm_models: 2, cold_starts_per_hour: 9, "
                               "vram: 1536MiB"));
}

TEST(tenants, every_mistake_has_its_place_and_a_remedy) {
  struct {
    const char* text;
    const char* where;
    const char* what;
  } const cases[] = {
      {"tenants: [a]", "troupe.yaml:1:10", "section of names"},
      {"tenants:\n  a:\n    wieght: 2", "troupe.yaml:3:5", "did you mean 'weight'"},
      {"tenants:\n  a:\n    weight: 0", "troupe.yaml:3:13", "0.001 to 1000000"},
      {"tenants:\n  a:\n    weight: nan", "troupe.yaml:3:13", "is no weight"},
      {"tenants:\n  a:\n    priority: urgent", "troupe.yaml:3:15", "interactive or standard"},
      {"tenants:\n  a:\n    limits: {rpm: -1}", "troupe.yaml:3:19", "200k"},
      {"tenants:\n  a:\n    limits: {tpm: 1.5}", "troupe.yaml:3:19", "200k"},
      {"tenants:\n  a:\n    limits: {vram: much}", "troupe.yaml:3:20", "24GiB"},
      {"tenants:\n  a:\n    limits: {vram: 0}", "troupe.yaml:3:20", "leave it out"},
      {"tenants:\n  a:\n    keys: secret", "troupe.yaml:3:11", "is a list"},
      {"tenants:\n  a:\n    keys: [{env: A, file: b}]", "troupe.yaml:3:12", "one of hash, env"},
      {"tenants:\n  a:\n    keys: [{hash: secret}]", "troupe.yaml:3:12", "64 lower-case hex"},
      {"tenants:\n  a:\n    keys: [{env: A, expires: tomorrow}]", "troupe.yaml:3:30", "2027-01-01"},
      {"tenants:\n  a:\n    keys: [{env: A, expires: 2027-02-30}]", "troupe.yaml:3:30",
       "is no time"},
      {"tenants:\n  a:\n    models: []", "troupe.yaml:3:13", "is a list"},
      {"admin_keys: {env: A}", "troupe.yaml:1:13", "is a list"},
  };
  for (const auto& x : cases) {
    const auto all = read(x.text);
    ASSERT_FALSE(all.problems().empty()) << x.text;
    EXPECT_EQ(all.problems()[0].where, x.where) << x.text;
    EXPECT_THAT(all.problems()[0].what, HasSubstr(x.what)) << x.text;
  }
}

TEST(tenants, a_key_belongs_to_one_tenant) {
  const auto entry = ": {keys: [{hash: 'sha256:" + hash + "'}]}\n";
  const auto all = read("tenants:\n  a" + entry + "  b" + entry);
  ASSERT_EQ(all.problems().size(), 1u);
  EXPECT_THAT(all.problems()[0].what, HasSubstr("already stands at 'a'"));
}

} // namespace
} // namespace troupe::config

// Ten thousand requests that are wrong in a known way: each must be answered 4xx, and none may
// reach the node. The seed is fixed, so that a failure repeats; a failure names the request.
#include <array>
#include <random>

#include "gateway_fixture.hpp"

namespace troupe::gateway::test {

namespace {

constexpr size_t requests_total = 10'000;
constexpr uint64_t seed = 20240517;

struct malformed {
  std::string bytes;
  std::string what;
  bool closes = false;     ///< the server gives the connection up
  bool ends_early = false; ///< the client closes its side behind it
};

const std::array<std::string, 4> sound_chat_bodies = {
    chat_body,
    R"({"model":"tiny","stream":true,"stream_options":{"include_usage":true},"temperature":0.7,)"
    R"("n":2,"messages":[{"role":"system","content":"Be brief."},)"
    R"({"role":"user","content":[{"type":"text","text":"H\u00e4?"}]}]})",
    R"({"model":"tiny","logit_bias":{"5":-100},"stop":["a","b"],"seed":17,"logprobs":true,)"
    R"("top_logprobs":3,"messages":[{"role":"user","content":"x"}],)"
    R"("tools":[{"type":"function","function":{"name":"f"}}]})",
    R"({"model":"tiny","keep_alive":"5m","chat_template_kwargs":{"a":{"b":[1,2,{"c":null}]}},)"
    R"("messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1","function":)"
    R"({"name":"f","arguments":"{}"}}]}]})",
};

/// Fields and values that they can never have.
const std::array<std::pair<const char*, const char*>, 48> wrong_fields = {{
    {"model", "3"},
    {"model", "[\"tiny\"]"},
    {"messages", "{}"},
    {"messages", "[]"},
    {"messages", "\"hi\""},
    {"messages", "[3]"},
    {"messages", "[{}]"},
    {"messages", "[{\"role\":\"king\",\"content\":\"x\"}]"},
    {"messages", "[{\"role\":\"user\"}]"},
    {"messages", "[{\"role\":\"user\",\"content\":7}]"},
    {"messages",
     "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]}]"},
    {"temperature", "\"hot\""},
    {"temperature", "2.01"},
    {"temperature", "-0.1"},
    {"temperature", "1e400"},
    {"temperature", "NaN"},
    {"temperature", "Infinity"},
    {"top_p", "1.5"},
    {"top_p", "[]"},
    {"n", "0"},
    {"n", "1.5"},
    {"n", "1000000"},
    {"n", "\"2\""},
    {"n", "99999999999999999999999"},
    {"stop", "3"},
    {"stop", "[\"a\",4]"},
    {"seed", "\"x\""},
    {"seed", "1.5"},
    {"max_tokens", "\"5\""},
    {"max_tokens", "0"},
    {"max_tokens", "-7"},
    {"max_completion_tokens", "1e99"},
    {"presence_penalty", "3"},
    {"frequency_penalty", "-2.5"},
    {"logit_bias", "[1]"},
    {"logit_bias", "{\"x\":1}"},
    {"logit_bias", "{\"5\":101}"},
    {"logit_bias", "{\"5\":\"1\"}"},
    {"logprobs", "5"},
    {"top_logprobs", "21"},
    {"stream", "\"yes\""},
    {"stream_options", "{\"include_usage\":true}"},
    {"response_format", "{\"type\":\"json_object\"}"},
    {"tools", "[{\"type\":\"function\"}]"},
    {"tool_choice", "\"required\""},
    {"keep_alive", "\"soon\""},
    {"top_k", "{}"},
    {"repetition_penalty", "0"},
}};

class generator {
public:
  malformed next() {
    switch (random_() % 8) {
    case 0:
    case 1:
    case 2:
      return broken_body();
    case 3:
    case 4:
      return wrong_field();
    case 5:
      return broken_text();
    case 6:
      return broken_frame();
    default:
      return wrong_shape();
    }
  }
  size_t below(size_t limit) { return random_() % limit; }

private:
  template <class Range>
  const auto& pick(const Range& from) {
    return from[below(std::size(from))];
  }

  std::string random_bytes(size_t count) {
    std::string out(count, '\0');
    for (auto& c : out)
      c = static_cast<char>(random_());
    return out;
  }

  std::string route() { return below(2) ? "/v1/chat/completions" : "/v1/completions"; }

  /// Edits of a sound body until it is JSON no more, as another parser sees it.
  malformed broken_body() {
    while (true) {
      auto body = pick(sound_chat_bodies);
      for (size_t edits = 1 + below(4); edits > 0; --edits)
        edit(body);
      if (!json::accept(body))
        return {format_post(route(), body), "broken body: " + body};
    }
  }

  void edit(std::string& body) {
    const auto at = below(body.size());
    switch (below(4)) {
    case 0:
      body[at] = static_cast<char>(random_());
      break;
    case 1:
      body.erase(at, 1 + below(10));
      break;
    case 2:
      body.insert(at, 1, "{}[]\",:\\\0\xff"[below(10)]);
      break;
    default:
      body.resize(at + 1);
    }
    if (body.empty())
      body = "{";
  }

  malformed wrong_field() {
    const auto& [name, value] = pick(wrong_fields);
    std::string body = "{";
    if (std::string_view{name} != "model")
      body += R"("model":"tiny",)";
    if (std::string_view{name} != "messages")
      body += R"("messages":[{"role":"user","content":"x"}],)";
    body += "\"" + std::string{name} + "\":" + value + "}";
    return {format_post("/v1/chat/completions", body), "wrong field: " + body};
  }

  /// Sound JSON but for bytes that are not UTF-8 inside a string.
  malformed broken_text() {
    static const std::array<std::string, 8> bad = {
        "\xff",     "\xc0\xaf", "\xed\xa0\x80",         "\xf4\x90\x80\x80",
        "\xe2\x82", "\x80",     "\xf8\x88\x80\x80\x80", "\xc3"};
    const auto body = R"({"model":"tiny","prompt":"a)" + pick(bad) + R"(b"})";
    return {format_post("/v1/completions", body), "bad UTF-8"};
  }

  malformed broken_frame() {
    switch (below(6)) {
    case 0:
      return {"~" + random_bytes(1 + below(200)) + "\r\n\r\n", "noise", true};
    case 1:
      return {"GET /health HTTP/1.1\r\nno colon " + std::to_string(below(100)) + "\r\n\r\n",
              "header", true};
    case 2:
      return {"POST /v1/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n", "length", true};
    case 3:
      return {"GET /health HTTP/1.1\r\nX: " + std::string(70'000, 'a') + "\r\n\r\n", "large header",
              true};
    case 4:
      return {"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\ng\r\n", "chunk",
              true};
    default: {
      const auto sound = format_post("/v1/completions", pick(sound_chat_bodies));
      return {sound.substr(0, 1 + below(sound.size() - 1)), "cut short", true, true};
    }
    }
  }

  malformed wrong_shape() {
    switch (below(5)) {
    case 0:
      return {format_post(route(), std::string(1 + below(2000), '[')), "deep"};
    case 1:
      return {format_post(route(), "[" + std::to_string(below(9)) + "]"), "not an object"};
    case 2:
      return {format_post(route(), ""), "empty"};
    case 3:
      return {format_post("/v1/none" + std::to_string(below(99)), chat_body), "no such route"};
    default:
      return {"PUT /v1/completions HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "wrong method"};
    }
  }

  std::mt19937_64 random_{seed};
};

} // namespace

using malformed_test = gateway_fixture;

TEST_F(malformed_test, ten_thousand_malformed_requests_get_4xx_and_nothing_else) {
  generator make;
  std::optional<http_client> client;
  size_t count = 0;
  while (count < requests_total) {
    if (!client)
      client.emplace(edge->port());
    std::vector<malformed> batch; // sent ahead, without waiting for answers
    std::string bytes;
    for (size_t i = 1 + make.below(4); i > 0; --i) {
      auto one = make.next();
      if (one.ends_early && !batch.empty())
        continue; // closing counts as leaving while requests are pending
      bytes += one.bytes;
      batch.push_back(std::move(one));
      if (batch.back().closes)
        break;
    }
    for (size_t at = 0; at < bytes.size();) {
      const auto piece = make.below(4) ? bytes.size() - at : 1 + make.below(bytes.size() - at);
      if (!client->send({bytes.data() + at, piece}))
        break; // refused already
      at += piece;
    }
    if (batch.back().ends_early)
      client->finish_sending();
    for (const auto& one : batch) {
      const auto answer = client->read_reply();
      ASSERT_TRUE(answer.status >= 400 && answer.status < 500)
          << "request " << count << " got " << answer.status << ": " << one.what;
      ASSERT_TRUE(error_of(answer).contains("message")) << answer.body;
      ++count;
    }
    if (batch.back().closes)
      client.reset();
  }
  EXPECT_EQ(node.invocation_count(), 0u);
  EXPECT_EQ(get("/health").status, 200);
}

} // namespace troupe::gateway::test

// Reading request bodies: which problem is named how, apart from any network.
#include <gtest/gtest.h>

#include "gateway/json_input.hpp"
#include "gateway/json_text.hpp"
#include "gateway/openai_request.hpp"
#include "gateway/wire_guard.hpp"

namespace troupe::gateway::test {

using namespace std::chrono_literals;

namespace {

api_error chat_error(const std::string& fields) {
  const auto body = R"({"model":"m","messages":[{"role":"user","content":"x"}])" + fields + "}";
  auto parsed = parse_chat_request(body, {});
  const auto* error = std::get_if<api_error>(&parsed);
  return error ? *error : api_error{200, "accepted: " + body, "", "", "", {}};
}

std::string quoted(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

} // namespace

TEST(request_test, a_wrong_type_names_the_field_and_both_types) {
  const auto error = chat_error(R"(,"temperature":"hot")");
  EXPECT_EQ(error.status, 400);
  EXPECT_EQ(error.param, "temperature");
  EXPECT_EQ(error.code, "invalid_type");
  EXPECT_EQ(error.message,
            "Invalid type for 'temperature': expected a number, but got a string instead.");
  EXPECT_EQ(chat_error(R"(,"stream":true,"stream_options":{"include_usage":1})").param,
            "stream_options.include_usage");
}

TEST(request_test, a_value_out_of_range_names_the_range) {
  const auto error = chat_error(R"(,"n":129)");
  EXPECT_EQ(error.code, "invalid_value");
  EXPECT_EQ(error.message, "Invalid value for 'n': 129 is not between 1 and 128.");
  EXPECT_EQ(chat_error(R"(,"logit_bias":{"3":200})").param, "logit_bias.3");
}

TEST(request_test, a_problem_inside_messages_names_the_place) {
  auto parsed = parse_chat_request(R"({"model":"m","messages":[{"role":"user","content":"x"},)"
                                   R"({"role":"user","content":[{"type":"text"}]}]})",
                                   {});
  EXPECT_EQ(std::get<api_error>(parsed).param, "messages[1].content[0].text");
}

TEST(request_test, features_that_are_not_there_are_unsupported_parameters) {
  for (const auto* fields :
       {R"(,"response_format":{"type":"json_schema"})", R"(,"tool_choice":"required")",
        R"(,"tool_choice":{"type":"function","function":{"name":"f"}})",
        R"(,"modalities":["audio"])"})
    EXPECT_EQ(chat_error(fields).code, "unsupported_parameter") << fields;
}

TEST(request_test, null_counts_as_absent_and_unknown_fields_are_kept_by_name) {
  auto parsed = parse_chat_request(R"({"model":"m","messages":[{"role":"user","content":"x"}],
    "temperature":null,"n":null,"stop":null,"tools":null,"logit_bias":null,
    "stream_options":null,"brand_new":1})",
                                   {});
  ASSERT_TRUE(std::holds_alternative<openai_request>(parsed))
      << std::get<api_error>(parsed).message;
  EXPECT_EQ(std::get<openai_request>(parsed).unknown_fields, std::vector<std::string>{"brand_new"});
}

TEST(request_test, whole_decimal_numbers_count_as_integers) {
  EXPECT_EQ(chat_error(R"(,"max_tokens":10.0,"n":2.0)").status, 200);
  EXPECT_EQ(chat_error(R"(,"max_tokens":10.5)").code, "invalid_type");
}

TEST(request_test, too_many_choices_are_refused) {
  std::string prompts = "[";
  for (int i = 0; i < 600; ++i)
    prompts += (i ? ",\"a\"" : "\"a\"");
  prompts += "]";
  EXPECT_TRUE(std::holds_alternative<openai_request>(
      parse_completion_request(R"({"model":"m","prompt":)" + prompts + "}", {})));
  const auto parsed =
      parse_completion_request(R"({"model":"m","n":2,"prompt":)" + prompts + "}", {});
  EXPECT_EQ(std::get<api_error>(parsed).param, "n");
}

TEST(request_test, broken_json_says_where) {
  const auto parsed = parse_json_object("{\"model\":\n \"m\",}");
  const auto& error = std::get<api_error>(parsed);
  EXPECT_EQ(error.code, "invalid_json");
  EXPECT_NE(error.message.find("line 2, column 6"), std::string::npos) << error.message;
}

TEST(request_test, json_that_readers_could_take_differently_is_refused) {
  EXPECT_NE(std::get<api_error>(parse_json_object(R"({"a":1,"b":2,"a":3})"))
                .message.find("'a' occurs twice"),
            std::string::npos);
  for (const auto* body :
       {"", "null", "[]", "{\"a\":1}x", "{\"a\":\"\xff\"}", "{\"a\":1e999}", "{\"a\":NaN}",
        "{\"a\":99999999999999999999999999}", "{\"a\":\"\\ud800\"}"})
    EXPECT_TRUE(std::holds_alternative<api_error>(parse_json_object(body))) << body;
}

TEST(request_test, nesting_is_bounded) {
  const auto nested = [](size_t depth) {
    return "{\"a\":" + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  EXPECT_TRUE(std::holds_alternative<json>(parse_json_object(nested(json_depth_max - 2))));
  EXPECT_TRUE(std::holds_alternative<api_error>(parse_json_object(nested(json_depth_max))));
  EXPECT_TRUE(std::holds_alternative<api_error>(parse_json_object(nested(1 << 20))));
}

TEST(request_test, an_object_with_a_million_keys_is_read_in_linear_time) {
  std::string body = "{";
  for (int i = 0; i < 1'000'000; ++i)
    body += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":1";
  EXPECT_TRUE(std::holds_alternative<json>(parse_json_object(body + "}"))); // quadratic: minutes
}

TEST(request_test, keep_alive_takes_ollama_forms) {
  EXPECT_EQ(parse_keep_alive("5m"), 5min);
  EXPECT_EQ(parse_keep_alive("1h30m"), 90min);
  EXPECT_EQ(parse_keep_alive("1.5s"), 1500ms);
  EXPECT_EQ(parse_keep_alive("300"), 300s);
  EXPECT_EQ(parse_keep_alive("0"), 0s);
  EXPECT_EQ(parse_keep_alive("-1"), -1s);
  EXPECT_LT(*parse_keep_alive("-1m"), 0s);
  for (const auto* text :
       {"", "-", "m", "5x", "5m3", "1e9h", "nan", "inf", "--1", "5 m", "99999999999999999h"})
    EXPECT_FALSE(parse_keep_alive(text)) << text;
  EXPECT_EQ(chat_error(R"(,"keep_alive":0)").status, 200);
  EXPECT_EQ(chat_error(R"(,"keep_alive":-1)").status, 200);
  EXPECT_EQ(chat_error(R"(,"keep_alive":[])").param, "keep_alive");
}

TEST(request_test, json_strings_are_escaped_and_always_utf8) {
  EXPECT_EQ(quoted("a\"\\\n\x01\x7f"), "\"a\\\"\\\\\\n\\u0001\\u007f\"");
  EXPECT_EQ(quoted("ä€😀"), "\"ä€😀\"");
  EXPECT_EQ(quoted("\xff\xc3(\xed\xa0\x80\xe2\x82"),
            "\"\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
            "\xef\xbf\xbd\xef\xbf\xbd\"");
}

TEST(request_test, the_wire_guard_agrees_with_itself_however_bytes_are_split) {
  const std::string sound =
      "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
      "GET /b HTTP/1.0\r\n\r\n";
  const std::string bytes = sound + "broken\r\n\r\n";
  for (size_t cut = 1; cut < bytes.size(); ++cut) {
    wire_guard guard{{}};
    auto first = guard.feed(bytes.data(), cut);
    size_t messages = first.completed.size();
    if (first.status == 0) {
      const auto second = guard.feed(bytes.data() + cut, bytes.size() - cut);
      messages += second.completed.size();
      EXPECT_EQ(second.status, 400) << cut;
    } else {
      EXPECT_EQ(first.pass, sound.size()) << cut;
    }
    EXPECT_EQ(messages, 2u) << cut;
  }
}

} // namespace troupe::gateway::test

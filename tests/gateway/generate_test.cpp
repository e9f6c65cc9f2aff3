// Chat and completions: what goes to the node, and what comes back.
#include "gateway_fixture.hpp"

namespace troupe::gateway::test {

using generate_test = gateway_fixture;

namespace {

/// The JSON of every `data:` event but the last, which must be [DONE]; comments are left out.
std::vector<json> events_of(const std::string& body) {
  std::vector<json> out;
  size_t at = 0;
  bool done = false;
  while (at < body.size()) {
    const auto end = body.find("\n\n", at);
    if (end == std::string::npos)
      return {};
    const auto frame = body.substr(at, end - at);
    at = end + 2;
    if (frame.starts_with(":"))
      continue;
    if (done || !frame.starts_with("data: "))
      return {};
    if (frame == "data: [DONE]")
      done = true;
    else
      out.push_back(json::parse(frame.substr(6)));
  }
  return done ? out : std::vector<json>{};
}

actors::piece_logprob make_logprob(const char* text) {
  return {5, text, text, -0.5f, {{text, text, -0.5f}, {"\xef\xbf\xbd", "\xff", -INFINITY}}};
}

} // namespace

TEST_F(generate_test, a_whole_chat_answer_has_the_openai_shape) {
  const auto answer = post("/v1/chat/completions", chat_body);
  EXPECT_EQ(answer.status, 200);
  const auto body = json::parse(answer.body);
  EXPECT_TRUE(body["id"].get<std::string>().starts_with("chatcmpl-"));
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["model"], "tiny");
  EXPECT_TRUE(body["created"].is_number_integer());
  ASSERT_EQ(body["choices"].size(), 1u);
  EXPECT_EQ(body["choices"][0]["message"]["role"], "assistant");
  EXPECT_EQ(body["choices"][0]["message"]["content"], "Hello, \"wörld\"\n");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(body["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(body["usage"],
            json::parse(R"({"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,
                                          "prompt_tokens_details":{"cached_tokens":2}})"));
}

TEST_F(generate_test, a_chat_stream_is_exact_to_the_byte) {
  const auto answer = post("/v1/chat/completions", chat_stream_body);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(answer.headers.at("cache-control"), "no-cache");
  EXPECT_EQ(answer.headers.at("x-accel-buffering"), "no");
  EXPECT_TRUE(answer.headers.contains("x-request-id"));
  const auto first = json::parse(answer.body.substr(6, answer.body.find("\n\n") - 6));
  const auto frame = [&](const std::string& delta, const std::string& finish) {
    return R"(data: {"id":)" + first["id"].dump() +
           R"(,"object":"chat.completion.chunk","created":)" + first["created"].dump() +
           R"(,"model":"tiny","choices":[{"index":0,"delta":)" + delta +
           R"(,"logprobs":null,"finish_reason":)" + finish + "}]}\n\n";
  };
  EXPECT_EQ(answer.body, frame(R"({"role":"assistant","content":"","refusal":null})", "null") +
                             frame(R"({"content":"Hello"})", "null") +
                             frame(R"({"content":", \"wörld\""})", "null") +
                             frame(R"({"content":"\n"})", "null") + frame("{}", "\"stop\"") +
                             "data: [DONE]\n\n");
}

TEST_F(generate_test, include_usage_adds_one_chunk_and_a_null_to_the_others) {
  const auto answer =
      post("/v1/chat/completions",
           R"({"model":"tiny","stream":true,"n":2,"stream_options":{"include_usage":true},
                               "messages":[{"role":"user","content":"Hi"}]})");
  const auto events = events_of(answer.body);
  ASSERT_EQ(events.size(), 11u); // 2 * (role + 3 pieces + finish) + usage
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    EXPECT_TRUE(events[i].contains("usage") && events[i]["usage"].is_null());
    EXPECT_EQ(events[i]["id"], events[0]["id"]);
  }
  EXPECT_EQ(events.back()["choices"], json::array());
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], 6);
  EXPECT_EQ(events.back()["object"], "chat.completion.chunk");
  EXPECT_EQ(events[0]["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(events[2]["choices"][0]["delta"]["role"], "assistant"); // once for each choice
  EXPECT_EQ(events[2]["choices"][0]["index"], 1);
}

TEST_F(generate_test, completions_stream_and_aggregate_in_their_own_shape) {
  const auto whole =
      json::parse(post("/v1/completions", R"({"model":"tiny","prompt":["a","b"],"n":2})").body);
  EXPECT_EQ(whole["object"], "text_completion");
  ASSERT_EQ(whole["choices"].size(), 4u);
  EXPECT_EQ(whole["choices"][3]["index"], 3);
  EXPECT_EQ(whole["choices"][3]["text"], "Hello, \"wörld\"\n");
  const auto events =
      events_of(post("/v1/completions", R"({"model":"tiny","prompt":"a","stream":true})").body);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0]["choices"][0]["text"], "Hello");
  EXPECT_TRUE(events[0]["choices"][0]["finish_reason"].is_null());
  EXPECT_EQ(events[3]["choices"][0]["text"], "");
  EXPECT_EQ(events[3]["choices"][0]["finish_reason"], "stop");
}

TEST_F(generate_test, chat_logprobs_carry_bytes_and_alternatives) {
  node.set_script([](invocation& one) {
    one.sink->on_text({0, "ab", {make_logprob("a"), make_logprob("b")}});
    one.sink->on_finish(0, engine::finish_reason::length);
    one.sink->on_done({1, 2, 0}, {});
  });
  const std::string fields = R"("model":"tiny","logprobs":true,"top_logprobs":2,)"
                             R"("messages":[{"role":"user","content":"x"}])";
  const auto whole = json::parse(post("/v1/chat/completions", "{" + fields + "}").body);
  const auto& content = whole["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 2u);
  EXPECT_EQ(content[1]["token"], "b");
  EXPECT_EQ(content[1]["bytes"], json::array({98}));
  EXPECT_FLOAT_EQ(content[1]["logprob"].get<float>(), -0.5f);
  EXPECT_EQ(content[0]["top_logprobs"][1]["bytes"], json::array({255}));
  EXPECT_FLOAT_EQ(content[0]["top_logprobs"][1]["logprob"].get<float>(), -9999.0f);
  EXPECT_EQ(whole["choices"][0]["finish_reason"], "length");
  const auto events =
      events_of(post("/v1/chat/completions", R"({"stream":true,)" + fields + "}").body);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[1]["choices"][0]["logprobs"]["content"], content);
}

TEST_F(generate_test, completion_logprobs_are_parallel_lists_with_offsets_in_characters) {
  node.set_script([](invocation& one) {
    one.sink->on_text({0, "öcho", {}}); // the echoed prompt
    one.sink->on_text({0, "ä", {make_logprob("ä"), make_logprob("")}});
    one.sink->on_text({0, "b", {make_logprob("b")}});
    one.sink->on_finish(0, engine::finish_reason::stop);
    one.sink->on_done({1, 3, 0}, {});
  });
  const auto whole = json::parse(
      post("/v1/completions", R"({"model":"tiny","prompt":"x","logprobs":2,"echo":true})").body);
  const auto& lists = whole["choices"][0]["logprobs"];
  EXPECT_EQ(lists["tokens"], json::array({"ä", "", "b"}));
  EXPECT_EQ(lists["text_offset"], json::array({4, 5, 5}));
  EXPECT_EQ(lists["token_logprobs"].size(), 3u);
  EXPECT_FLOAT_EQ(lists["top_logprobs"][2]["b"].get<float>(), -0.5f);
  EXPECT_EQ(whole["choices"][0]["text"], "öchoäb");
  EXPECT_TRUE(node.wait_invocation(0)->request.echo);
}

TEST_F(generate_test, every_field_reaches_the_node) {
  post("/v1/chat/completions",
       R"({"model":"tiny","temperature":0.5,"top_p":0.9,"min_p":0.1,"top_k":40,"n":1,
    "stop":["a","b"],"seed":-1,"max_tokens":5,"max_completion_tokens":9,"presence_penalty":1,
    "frequency_penalty":-1,"repeat_penalty":1.5,"logit_bias":{"17":-100,"3":2.5},"logprobs":true,
    "top_logprobs":4,"ignore_eos":true,"min_tokens":2,"stop_token_ids":[4,5],"keep_alive":"5m",
    "user":"u","reasoning_effort":"low","tool_choice":"auto","parallel_tool_calls":true,
    "tools":[{"type":"function","function":{"name":"f","parameters":{"b":1,"a":2}}}],
    "chat_template_kwargs":{"enable_thinking":false},"response_format":{"type":"text"},
    "some_new_field":{"x":[1]},"messages":[{"role":"developer","content":"d"},
    {"role":"user","content":[{"type":"text","text":"p"},{"type":"text","text":"q"}]},
    {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",
    "function":{"name":"f","arguments":"{\"b\":1}"}}]},
    {"role":"tool","tool_call_id":"c1","content":"42"}]})",
       "X-Request-Id: abc\r\n");
  const auto one = node.wait_invocation(0);
  ASSERT_TRUE(one);
  const auto& request = one->request;
  EXPECT_EQ(request.id.text, "abc");
  EXPECT_EQ(request.model.text, "tiny");
  EXPECT_EQ(request.keep_alive, 300s);
  const auto& sampling = request.sampling;
  EXPECT_EQ(sampling.temperature, 0.5f);
  EXPECT_EQ(sampling.top_p, 0.9f);
  EXPECT_EQ(sampling.min_p, 0.1f);
  EXPECT_EQ(sampling.top_k, 40);
  EXPECT_EQ(sampling.presence_penalty, 1.0f);
  EXPECT_EQ(sampling.frequency_penalty, -1.0f);
  EXPECT_EQ(sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(sampling.seed, UINT64_MAX);
  EXPECT_EQ(sampling.max_tokens, 9u);
  EXPECT_EQ(sampling.min_tokens, 2u);
  EXPECT_TRUE(sampling.ignore_eos);
  EXPECT_EQ(sampling.top_logprobs, 4);
  EXPECT_EQ(sampling.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(sampling.stop_token_ids, (std::vector<engine::token_id>{4, 5}));
  EXPECT_EQ(sampling.logit_bias,
            (std::vector<std::pair<engine::token_id, float>>{{17, -100.f}, {3, 2.5f}}));
  const auto& chat = std::get<actors::chat_prompt>(request.prompts.at(0));
  EXPECT_EQ(
      chat.messages.dump(),
      R"([{"role":"system","content":"d"},{"role":"user","content":"p\nq"},)"
      R"({"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":)"
      R"({"name":"f","arguments":{"b":1}}}]},{"role":"tool","content":"42","tool_call_id":"c1"}])");
  EXPECT_EQ(chat.extra.dump(),
            R"({"tools":[{"type":"function","function":{"name":"f","parameters":{"b":1,"a":2}}}],)"
            R"("add_generation_prompt":true,"reasoning_effort":"low","enable_thinking":false})");
}

TEST_F(generate_test, completions_accept_every_form_of_prompt_and_default_to_16_tokens) {
  post("/v1/completions", R"({"model":"tiny","prompt":[[1,2],[3]]})");
  post("/v1/completions", R"({"model":"tiny","prompt":[1,2,3],"max_tokens":-1,"best_of":1})");
  const auto lists = node.wait_invocation(0);
  ASSERT_EQ(lists->request.prompts.size(), 2u);
  EXPECT_EQ(std::get<actors::token_prompt>(lists->request.prompts[0]).tokens,
            (std::vector<engine::token_id>{1, 2}));
  EXPECT_EQ(lists->request.sampling.max_tokens, 16u);
  const auto flat = node.wait_invocation(1);
  EXPECT_EQ(flat->request.prompts.size(), 1u);
  EXPECT_FALSE(flat->request.sampling.max_tokens);
}

TEST_F(generate_test, loading_shows_as_comments_before_the_first_event) {
  node.set_script([](invocation& one) {
    one.sink->on_progress({{"tiny"}, "loading", 37, 100});
    one.sink->on_accepted(7);
    fake_services::answer_hello(one);
  });
  const auto answer = post("/v1/chat/completions", chat_stream_body);
  EXPECT_TRUE(answer.body.starts_with(": loading tiny 37% ...\n\ndata: {")) << answer.body;
  EXPECT_EQ(events_of(answer.body).size(), 5u);
}

TEST_F(generate_test, a_failure_before_the_first_byte_has_its_own_status) {
  struct {
    actors::failure why;
    int status;
    const char* type;
    const char* code;
  } const cases[] = {
      {{actors::failure_kind::invalid_request, "m", "seed", {}},
       400,
       "invalid_request_error",
       "invalid_value"},
      {{actors::failure_kind::context_length_exceeded, "m", "", {}},
       400,
       "invalid_request_error",
       "context_length_exceeded"},
      {{actors::failure_kind::unsupported, "m", "", {}},
       400,
       "invalid_request_error",
       "unsupported_parameter"},
      {{actors::failure_kind::model_not_found, "m", "", {}},
       404,
       "invalid_request_error",
       "model_not_found"},
      {{actors::failure_kind::queue_full, "m", "", 4000s}, 503, "server_error", "queue_full"},
      {{actors::failure_kind::no_capacity, "m", "", {}}, 503, "server_error", "no_capacity"},
      {{actors::failure_kind::load_failed, "m", "", 3s}, 503, "server_error", "model_loading"},
      {{actors::failure_kind::load_failed, "m", "", {}}, 500, "server_error", "model_load_failed"},
      {{actors::failure_kind::shutting_down, "m", "", {}}, 503, "server_error", "shutting_down"},
      {{actors::failure_kind::timed_out, "m", "", {}}, 504, "server_error", "timeout"},
      {{actors::failure_kind::internal, "m", "", {}}, 500, "server_error", "internal_error"},
  };
  for (const auto& one : cases) {
    node.set_script([&](invocation& running) { running.sink->on_failure(one.why); });
    for (const auto& body : {chat_body, chat_stream_body}) {
      const auto answer = post("/v1/chat/completions", body);
      EXPECT_EQ(answer.status, one.status) << one.code;
      const auto error = error_of(answer);
      EXPECT_EQ(error["type"], one.type);
      EXPECT_EQ(error["code"], one.code);
      EXPECT_EQ(answer.headers.contains("retry-after"), one.status == 503);
      if (one.why.kind == actors::failure_kind::queue_full) {
        EXPECT_EQ(answer.headers.at("retry-after"), "120"); // clients ignore longer ones
      }
      EXPECT_EQ(answer.headers.contains("x-should-retry"),
                std::string_view{one.code} == "model_load_failed");
    }
  }
}

TEST_F(generate_test, a_failure_after_the_first_byte_is_an_event) {
  node.set_script([](invocation& one) {
    one.sink->on_accepted(1);
    one.sink->on_text({0, "Hel", {}});
    one.sink->on_failure({actors::failure_kind::internal, "the worker is gone", "", {}});
  });
  const auto answer = post("/v1/chat/completions", chat_stream_body);
  EXPECT_EQ(answer.status, 200);
  const auto events = events_of(answer.body);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[2]["error"]["message"], "the worker is gone");
  EXPECT_EQ(events[2]["error"]["code"], "internal_error");
}

TEST_F(generate_test, a_silent_stream_gets_comments) {
  server_options options;
  options.sse_silence_max = 20ms;
  start(options);
  node.set_script([](invocation&) {});
  auto client = connect();
  client.send(format_post("/v1/chat/completions", chat_stream_body));
  EXPECT_EQ(client.read_head().status, 200);
  EXPECT_TRUE(client.read_until(": keep-alive\n\n").ends_with(": keep-alive\n\n"));
  EXPECT_TRUE(client.read_until(": keep-alive\n\n").ends_with(": keep-alive\n\n"));
  const auto one = node.wait_invocation(0);
  node.post([one] { fake_services::answer_hello(*one); });
  EXPECT_TRUE(client.read_until("data: [DONE]\n\n").ends_with("[DONE]\n\n"));
}

TEST_F(generate_test, many_streams_at_once_each_get_their_own_text) {
  node.set_script([](invocation& one) {
    const auto& chat = std::get<actors::chat_prompt>(one.request.prompts[0]);
    one.sink->on_accepted(1);
    for (int i = 0; i < 20; ++i)
      one.sink->on_text({0, chat.messages[0]["content"].get<std::string>(), {}});
    one.sink->on_finish(0, engine::finish_reason::stop);
    one.sink->on_done({1, 20, 0}, {});
  });
  std::vector<http_client> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(connect());
    clients.back().send(
        format_post("/v1/chat/completions",
                    R"({"model":"tiny","stream":true,"messages":[{"role":"user","content":")" +
                        std::to_string(i) + R"("}]})"));
  }
  for (int i = 0; i < 100; ++i) {
    const auto events = events_of(clients[i].read_reply().body);
    ASSERT_EQ(events.size(), 22u);
    for (int k = 1; k <= 20; ++k)
      EXPECT_EQ(events[k]["choices"][0]["delta"]["content"].get<std::string>(), std::to_string(i));
  }
}

} // namespace troupe::gateway::test

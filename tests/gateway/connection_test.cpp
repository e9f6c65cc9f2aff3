// What clients do to a connection: leave, hurry, dawdle, send too much or nonsense.
#include "gateway_fixture.hpp"

namespace troupe::gateway::test {

using connection_test = gateway_fixture;

namespace {

const std::string get_health = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";

} // namespace

TEST_F(connection_test, a_client_that_closes_before_anything_was_written_cancels) {
  node.set_script([](invocation&) {});
  for (const auto& body : {chat_body, chat_stream_body}) {
    const auto index = node.invocation_count();
    auto client = connect();
    client.send(format_post("/v1/chat/completions", body));
    const auto one = node.wait_invocation(index);
    ASSERT_TRUE(one);
    EXPECT_FALSE(one->is_cancelled());
    client.close();
    EXPECT_TRUE(one->wait_cancelled());
  }
}

TEST_F(connection_test, a_client_that_closes_in_the_middle_of_a_stream_cancels) {
  node.set_script([](invocation& one) { one.sink->on_text({0, "Hel", {}}); });
  auto client = connect();
  client.send(format_post("/v1/chat/completions", chat_stream_body));
  client.read_until("Hel");
  const auto one = node.wait_invocation(0);
  EXPECT_EQ(edge->in_flight(), 1u);
  client.close();
  EXPECT_TRUE(one->wait_cancelled());
  // What the node still says goes nowhere, quietly.
  node.post([one] { fake_services::answer_hello(*one); });
  EXPECT_EQ(get("/health").status, 200);
  EXPECT_NE(get("/metrics").body.find(R"({code="499",route="/v1/chat/completions"} 1)"),
            std::string::npos);
}

TEST_F(connection_test, a_finished_request_is_not_cancelled_by_closing) {
  auto client = connect();
  EXPECT_EQ(client.post("/v1/chat/completions", chat_body).status, 200);
  client.close();
  node.set_script([](invocation&) {});
  auto second = connect();
  second.send(format_post("/v1/chat/completions", chat_body));
  const auto running = node.wait_invocation(1);
  second.close();
  EXPECT_TRUE(running->wait_cancelled());
  EXPECT_FALSE(node.wait_invocation(0)->is_cancelled());
}

TEST_F(connection_test, pipelined_requests_are_answered_in_order_one_after_the_other) {
  auto client = connect();
  std::string all;
  for (int i = 0; i < 20; ++i) // more than may be pending at once
    all += i % 3 == 0   ? format_post("/v1/chat/completions", chat_stream_body)
           : i % 3 == 1 ? get_health
                        : format_post("/v1/chat/completions", chat_body);
  client.send(all);
  for (int i = 0; i < 20; ++i) {
    const auto answer = client.read_reply();
    ASSERT_EQ(answer.status, 200) << i;
    if (i % 3 == 0) {
      EXPECT_TRUE(answer.body.ends_with("data: [DONE]\n\n"));
    } else if (i % 3 == 1) {
      EXPECT_EQ(answer.body, R"({"status":"ok"})");
    } else {
      EXPECT_EQ(json::parse(answer.body)["object"], "chat.completion");
    }
  }
}

TEST_F(connection_test, a_client_that_leaves_with_requests_waiting_cancels_the_running_one) {
  node.set_script([](invocation&) {});
  auto client = connect();
  client.send(format_post("/v1/chat/completions", chat_body) +
              format_post("/v1/chat/completions", chat_body));
  const auto one = node.wait_invocation(0);
  client.close();
  EXPECT_TRUE(one->wait_cancelled());
  EXPECT_EQ(get("/health").status, 200);
  EXPECT_EQ(node.invocation_count(), 1u); // the second never started
}

TEST_F(connection_test, requests_in_single_bytes_are_understood) {
  auto client = connect();
  const auto request = format_post("/v1/chat/completions", chat_body);
  for (const char c : request)
    ASSERT_TRUE(client.send({&c, 1}));
  EXPECT_EQ(client.read_reply().status, 200);
  // Chunked, every chunk in a piece of its own.
  client.send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (const char c : chat_body)
    client.send(std::string{"1\r\n"} + c + "\r\n");
  client.send("0\r\n\r\n");
  EXPECT_EQ(client.read_reply().status, 200);
}

TEST_F(connection_test, broken_http_is_answered_400_and_closed) {
  for (const std::string bytes :
       {"nonsense\r\n\r\n", "GET / HTTP/3.0\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "FLY / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01",
        "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"}) {
    auto client = connect();
    client.send(bytes);
    const auto answer = client.read_reply();
    EXPECT_EQ(answer.status, 400) << bytes;
    EXPECT_EQ(error_of(answer)["code"], "bad_http_request");
    EXPECT_EQ(answer.headers.at("connection"), "close");
    EXPECT_TRUE(client.closed());
  }
}

TEST_F(connection_test, sound_requests_before_broken_bytes_are_still_answered) {
  std::function<void()> go_on;
  node.set_script([&](invocation& one) {
    go_on = [&one] { fake_services::answer_hello(one); };
    node.post(go_on);
  });
  auto client = connect();
  client.send(get_health + format_post("/v1/chat/completions", chat_stream_body) +
              "nonsense\r\n\r\n");
  EXPECT_EQ(client.read_reply().status, 200);
  EXPECT_TRUE(client.read_reply().body.ends_with("[DONE]\n\n"));
  EXPECT_EQ(client.read_reply().status, 400);
  EXPECT_TRUE(client.closed());
}

TEST_F(connection_test, a_client_that_leaves_after_broken_bytes_cancels_too) {
  node.set_script([](invocation&) {});
  auto client = connect();
  client.send(format_post("/v1/chat/completions", chat_body) + "nonsense\r\n\r\n");
  const auto one = node.wait_invocation(0);
  client.close();
  EXPECT_TRUE(one->wait_cancelled());
}

TEST_F(connection_test, a_request_that_ends_in_the_middle_is_400) {
  for (const std::string bytes :
       {"GET /hea", "POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"}) {
    auto client = connect();
    client.send(bytes);
    client.finish_sending();
    EXPECT_EQ(client.read_reply().status, 400);
    EXPECT_TRUE(client.closed());
  }
}

TEST_F(connection_test, limits_on_body_headers_and_url_are_named) {
  start({.body_bytes_max = 1000, .header_bytes_max = 2000});
  const auto send = [&](const std::string& bytes) {
    auto client = connect();
    client.send(bytes);
    const auto answer = client.read_reply();
    EXPECT_TRUE(client.closed());
    return std::pair{answer.status, error_of(answer).value("code", "")};
  };
  using pair = std::pair<int, std::string>;
  EXPECT_EQ(send(format_post("/v1/completions", std::string(1001, ' '))),
            (pair{413, "payload_too_large"}));
  // Refused at the headers, before the body is sent.
  EXPECT_EQ(send("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"),
            (pair{413, "payload_too_large"}));
  EXPECT_EQ(send("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n"),
            (pair{413, "payload_too_large"}));
  EXPECT_EQ(send("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
            (pair{400, "bad_http_request"})); // no number any more
  EXPECT_EQ(send("GET / HTTP/1.1\r\nX: " + std::string(2000, 'a') + "\r\n\r\n"),
            (pair{431, "headers_too_large"}));
  EXPECT_EQ(send("GET /" + std::string(10000, 'a') + " HTTP/1.1\r\n\r\n"),
            (pair{414, "uri_too_long"}));
  EXPECT_EQ(post("/v1/completions", std::string(1000, ' ')).status, 400);
}

TEST_F(connection_test, a_large_body_is_refused_without_a_reset_while_it_is_being_sent) {
  start({.body_bytes_max = 1000});
  auto client = connect();
  const auto request = format_post("/v1/completions", std::string(8u << 20, ' '));
  client.send(request);
  EXPECT_EQ(client.read_reply().status, 413);
}

TEST_F(connection_test, expect_100_continue_is_answered) {
  auto client = connect();
  client.send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: " +
      std::to_string(chat_body.size()) + "\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send(chat_body);
  EXPECT_EQ(client.read_reply().status, 200);
}

TEST_F(connection_test, http_1_0_gets_streams_without_chunks) {
  auto client = connect();
  client.send("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: " +
              std::to_string(chat_stream_body.size()) + "\r\n\r\n" + chat_stream_body);
  const auto answer = client.read_reply();
  EXPECT_EQ(answer.status, 200);
  EXPECT_FALSE(answer.headers.contains("transfer-encoding"));
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_TRUE(answer.body.starts_with("data: {"));
  EXPECT_TRUE(answer.body.ends_with("data: [DONE]\n\n"));
}

TEST_F(connection_test, an_offer_to_upgrade_is_declined_by_answering) {
  auto client = connect();
  const auto answer = client.post(
      "/v1/chat/completions", chat_stream_body,
      "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n");
  EXPECT_EQ(answer.status, 200);
  EXPECT_TRUE(answer.body.ends_with("data: [DONE]\n\n"));
  EXPECT_TRUE(client.closed());
}

TEST_F(connection_test, connection_close_is_honoured) {
  auto client = connect();
  const auto answer =
      client.post("/v1/chat/completions", chat_stream_body, "Connection: close\r\n");
  EXPECT_TRUE(answer.body.ends_with("data: [DONE]\n\n"));
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_TRUE(client.closed());
}

TEST_F(connection_test, a_client_that_does_not_read_is_cut_off_and_cancelled) {
  node.set_script([](invocation& one) { // it may go on for a while after the test has ended
    const std::string piece(64 << 10, 'x');
    // Far more than the kernel's buffers and ours together.
    for (int i = 0; i < 4096 && !one.is_cancelled(); ++i)
      one.sink->on_text({0, piece, {}});
  });
  http_client lazy{edge->port(), 4096};
  lazy.send(format_post("/v1/chat/completions", chat_stream_body));
  const auto one = node.wait_invocation(0);
  EXPECT_TRUE(one->wait_cancelled());
}

TEST_F(connection_test, a_request_that_takes_too_long_to_arrive_is_dropped) {
  server_options options;
  options.read_timeout = 50ms; // checked about once a second
  start(options);
  auto client = connect();
  client.send("GET /health HTT");
  EXPECT_TRUE(client.closed());
}

TEST_F(connection_test, connections_past_the_limit_are_told_so) {
  start({.connections_max = 2});
  auto first = connect(), second = connect();
  EXPECT_EQ(first.get("/health").status, 200);
  EXPECT_EQ(second.get("/health").status, 200);
  auto third = connect();
  const auto refused = third.read_reply();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(error_of(refused)["code"], "too_many_connections");
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  EXPECT_TRUE(third.closed());
  first.close();
  // Once the server has noticed, there is room again.
  int status = 503;
  while (status == 503)
    status = connect().get("/health").status;
  EXPECT_EQ(status, 200);
}

TEST_F(connection_test, stopping_the_server_cancels_what_runs_and_outlives_late_answers) {
  node.set_script([](invocation& one) { one.sink->on_text({0, "Hel", {}}); });
  auto client = connect();
  client.send(format_post("/v1/chat/completions", chat_stream_body));
  client.read_until("Hel");
  const auto one = node.wait_invocation(0);
  edge.reset();
  EXPECT_TRUE(one->is_cancelled());
  EXPECT_TRUE(client.read_until("never").find("[DONE]") == std::string::npos);
  fake_services::answer_hello(*one);
  start();
  node.set_script(fake_services::answer_hello);
  EXPECT_EQ(post("/v1/chat/completions", chat_body).status, 200);
}

TEST_F(connection_test, several_threads_serve_many_connections) {
  start({.threads = 4});
  std::vector<std::thread> users;
  std::atomic<int> good{0};
  for (int u = 0; u < 8; ++u)
    users.emplace_back([&] {
      auto client = connect();
      for (int i = 0; i < 50; ++i)
        good +=
            client.post("/v1/chat/completions", i % 2 ? chat_body : chat_stream_body).status == 200;
    });
  for (auto& one : users)
    one.join();
  EXPECT_EQ(good, 400);
  // A client may have its last byte before the server has heard that it was sent.
  while (edge->in_flight() != 0)
    std::this_thread::yield();
}

} // namespace troupe::gateway::test

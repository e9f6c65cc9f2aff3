#pragma once
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fake_services.hpp"
#include "gateway/server.hpp"
#include "http_client.hpp"

namespace troupe::gateway::test {

using json = nlohmann::json;

/// A server on a free port over a fake node.
class gateway_fixture : public ::testing::Test {
protected:
  void start(server_options options = {}) {
    options.port = 0;
    auto started = server::start(options, node);
    ASSERT_TRUE(started) << describe(started.error());
    edge = std::move(*started);
  }
  void SetUp() override { start(); }

  http_client connect() { return http_client{edge->port()}; }
  reply get(const std::string& path, const std::string& headers = {}) {
    return connect().get(path, headers);
  }
  reply post(const std::string& path, const std::string& body, const std::string& headers = {}) {
    return connect().post(path, body, headers);
  }
  /// The `error` object of a reply that must have exactly the four keys.
  static json error_of(const reply& from) {
    const auto body = json::parse(from.body, nullptr, false);
    if (!body.is_object() || body.size() != 1 || !body.contains("error") ||
        body["error"].size() != 4)
      return json{{"not the error shape", from.body}};
    return body["error"];
  }

  fake_services node;
  std::unique_ptr<server> edge;
};

inline const std::string chat_body =
    R"({"model":"tiny","messages":[{"role":"user","content":"Hi"}]})";
inline const std::string chat_stream_body =
    R"({"model":"tiny","stream":true,"messages":[{"role":"user","content":"Hi"}]})";

} // namespace troupe::gateway::test

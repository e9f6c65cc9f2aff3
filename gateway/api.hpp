#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>

#include "actors/ledger.hpp"
#include "actors/services.hpp"
#include "actors/tenant_registry.hpp"
#include "gateway/http.hpp"
#include "gateway/openai_request.hpp"
#include "gateway/surface.hpp"

namespace troupe::gateway {

class configuration;

struct api_options {
  surface serves = surface::everything;
  bool metrics_open = false; ///< /metrics needs no key
  request_limits limits;
  std::chrono::milliseconds request_timeout{600'000};
  std::shared_ptr<const actors::tenant_registry> tenants =
      std::make_shared<actors::tenant_registry>();
  std::shared_ptr<actors::ledger> ledger; ///< null: none is kept
  std::shared_ptr<configuration> config;  ///< null: it is neither shown nor changed
  /// Runs work that takes longer than an actor or I/O thread may be held (tokenizing a book).
  std::function<void(std::function<void()>)> offload = [](std::function<void()> work) { work(); };
};

/// The routes: from a request in plain values to calls of `services` and back. Any thread may call.
class api {
public:
  api(actors::services& services, api_options options);
  /// Answers through `channel`, at once or later.
  void handle(http_request request, std::shared_ptr<reply_channel> channel);
  /// From now on new work is refused with 503; what only looks is still answered.
  void drain() { draining_ = true; }
  bool draining() const { return draining_; }

private:
  using channel_ptr = std::shared_ptr<reply_channel>;
  using handler = void (api::*)(const http_request&, const channel_ptr&, const std::string& model);
  struct route;
  static const route routes[];

  bool let_in(const route& to, http_request& request, const channel_ptr& channel);
  void generate(const http_request& request, const channel_ptr& channel, bool chat);
  void chat_completions(const http_request&, const channel_ptr&, const std::string&);
  void completions(const http_request&, const channel_ptr&, const std::string&);
  void tokenize(const http_request&, const channel_ptr&, const std::string&);
  void detokenize(const http_request&, const channel_ptr&, const std::string&);
  void list_models(const http_request&, const channel_ptr&, const std::string&);
  void retrieve_model(const http_request&, const channel_ptr&, const std::string& model);
  void welcome(const http_request&, const channel_ptr&, const std::string&);
  void health(const http_request&, const channel_ptr&, const std::string&);
  void ready(const http_request&, const channel_ptr&, const std::string&);
  void version(const http_request&, const channel_ptr&, const std::string&);
  void metrics(const http_request&, const channel_ptr&, const std::string&);
  void admin_models(const http_request&, const channel_ptr&, const std::string&);
  void admin_load(const http_request&, const channel_ptr&, const std::string& model);
  void admin_unload(const http_request&, const channel_ptr&, const std::string& model);
  void admin_usage(const http_request&, const channel_ptr&, const std::string&);
  void admin_tenants(const http_request&, const channel_ptr&, const std::string&);
  void admin_config(const http_request&, const channel_ptr&, const std::string&);
  void admin_put_config(const http_request&, const channel_ptr&, const std::string&);
  void admin_requests(const http_request&, const channel_ptr&, const std::string&);
  void admin_request(const http_request&, const channel_ptr&, const std::string& id);
  void admin_actors(const http_request&, const channel_ptr&, const std::string&);

  actors::services& services_;
  api_options options_;
  std::atomic<bool> draining_{false};
};

} // namespace troupe::gateway

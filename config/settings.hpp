#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/tenants.hpp"
#include "config/units.hpp"

namespace troupe::config {

struct cluster_settings {
  std::optional<host_port> listen;
  std::optional<host_port> join;
  std::optional<host_port> data_listen;
  uint64_t data_rate = 0; ///< bytes per second; 0 = no limit
  bool same_paths = true;
};

struct engine_settings {
  memory_amount kv_memory{0, 10}; ///< of a worker, all models together
  uint32_t block_size = 16;
  uint32_t sequences_max = 64;
  uint32_t step_tokens_max = 512;
  uint32_t context_max = 0;
  bool prefix_cache = true;
  uint32_t draft_tokens_max = 8;
  std::string quantize = "none";
  std::string kv_type = "auto";
  std::string products = "invariant";
  std::string draft_model; ///< name or path of the model that guesses for the others; empty = none
  std::chrono::milliseconds step_target{0};
  uint64_t swap_bytes = 64ull << 20;
};

struct storage_settings {
  std::string pool = "on"; ///< "on", "off" or the directory it lies in
  memory_amount pool_memory{0, 20};
  memory_amount pool_ready{0, 5};
  memory_amount pool_pinned{0, 100};
  bool prefetch = true;
};

struct limit_settings {
  uint64_t body_bytes = 16ull << 20;
  uint64_t header_bytes = 64ull << 10;
  uint32_t connections = 4096;
  std::chrono::milliseconds read_timeout{60'000};
  std::chrono::milliseconds write_timeout{60'000};
  std::chrono::milliseconds sse_silence{10'000};
  std::chrono::milliseconds request_timeout{600'000};
  uint32_t n_max = 128;
};

struct download_settings {
  uint32_t connections = 8;
  uint32_t retries = 6;
  std::chrono::milliseconds stall_timeout{30'000};
};

/// PEM files; both empty = plain HTTP.
struct tls_settings {
  std::string cert_file, key_file;
};

struct log_settings {
  std::string level = "info";
  std::string format = "text";
};

/// Settings of the models whose id is, or matches, the name they stand under; unset = the node's.
struct model_settings {
  std::optional<std::chrono::milliseconds> keep_alive; ///< negative = for ever
  std::optional<bool> pinned;
  std::optional<bool> preload;
  std::optional<uint32_t> replicas;
  std::optional<uint64_t> kv_bytes;
  std::optional<uint32_t> context_max;
  std::optional<std::string> quantize;
  std::optional<std::string> kv_type;
  std::optional<std::string> draft_model;
  /// Where the model is fetched from when it is first needed; the first, then its mirrors.
  std::optional<std::vector<std::string>> source;
  std::optional<std::vector<std::string>> aliases;
};

/// Everything that can be configured, defaults filled in. What each means: the table in keys.cpp.
struct settings {
  host_port listen{"127.0.0.1", 11500};
  bool admin = true;
  std::optional<host_port> admin_listen; ///< nothing = where `listen` is, if `admin`
  bool metrics_key = true;
  std::string role = "all";
  cluster_settings cluster;
  std::string node_name;
  std::vector<std::string> model_dirs;
  std::string hub_cache = "on"; ///< "on", "off" or a directory
  std::string store_dir;        ///< empty = in the user's data directory
  std::vector<std::string> devices{"auto"};
  memory_amount memory_limit{0, 80};
  uint32_t threads = 0;
  std::string precision = "auto";
  std::chrono::milliseconds keep_alive{300'000};
  uint32_t queue_max = 1024;
  uint32_t request_history = 4096;
  std::chrono::milliseconds load_timeout{600'000};
  std::chrono::milliseconds drain_timeout{30'000};
  engine_settings engine;
  storage_settings storage;
  tls_settings tls, admin_tls;
  limit_settings limits;
  download_settings download;
  log_settings log;
  /// By model id or glob, in file order.
  std::vector<std::pair<std::string, model_settings>> models;
  /// In file order. With keys in any of them, requests need one.
  std::vector<tenant_settings> tenants;
  std::vector<access_key_settings> admin_keys;
  /// "on", "off" or a directory.
  std::string state_dir = "on";
  /// Whose requests those without a key are, as long as there are no keys.
  std::string default_tenant = "anonymous";
};

/// What applies to one model: globs in file order, later ones winning, and the exact name last.
model_settings settings_for(const settings& all, const std::string& model);

} // namespace troupe::config

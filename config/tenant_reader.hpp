#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/tenants.hpp"
#include "config/yaml_tree.hpp"

namespace troupe::config {

/// Reads the sections `tenants` and `admin_keys`. Whatever is wrong goes to `problem`, with its
/// place and what to write instead.
class tenant_reader {
public:
  using problem_sink = std::function<void(position, std::string)>;
  tenant_reader(std::filesystem::path folder, problem_sink problem)
      : folder_{std::move(folder)}, problem_{std::move(problem)} {}
  std::vector<tenant_settings> tenants(const yaml_node& node);
  std::vector<access_key_settings> keys(const yaml_node& node, const std::string& path);

private:
  using field = std::pair<std::string_view, std::function<void(const yaml_node&)>>;
  void section(const yaml_node& node, const std::string& path, const std::vector<field>& fields);
  tenant_settings tenant(const yaml_node::entry& entry);
  budget_settings budget(const yaml_node& node, const std::string& path);
  access_key_settings key(const yaml_node& node, const std::string& path);
  const std::string* text(const yaml_node& node, const std::string& path);
  void amount(const yaml_node& node, const std::string& path, uint64_t& to);
  void memory(const yaml_node& node, const std::string& path, uint64_t& to);
  void choice(const yaml_node& node, const std::string& path,
              const std::vector<std::string_view>& known, std::string& to);

  std::filesystem::path folder_;
  problem_sink problem_;
  size_t nodes_ = 0; ///< visited: aliases may make a small file a huge tree
};

/// "600", "200k", "1.5M", "2G": thousands, as people count tokens. At least 1.
std::optional<uint64_t> parse_amount(std::string_view text);

/// Problems that only show when all tenants are known: a hash that stands twice.
std::vector<std::string> check_tenants(const std::vector<tenant_settings>& tenants);

/// The line of a tenant's budget; nothing without one.
std::string show_budget(const budget_settings& budget);

/// As YAML, two spaces deep; keys by their hash, variable or file.
std::string show_tenants(const std::vector<tenant_settings>& tenants,
                         const std::vector<access_key_settings>& admin_keys);

} // namespace troupe::config

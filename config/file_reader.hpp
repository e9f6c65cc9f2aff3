#pragma once
#include <filesystem>
#include <string>

#include "config/keys.hpp"
#include "config/layers.hpp"
#include "config/yaml_tree.hpp"

namespace troupe::config {

/// Carries one YAML document into `layers` by the key table.
class file_reader {
public:
  file_reader(layers& into, std::string name, std::filesystem::path folder)
      : into_{into}, name_{std::move(name)}, folder_{std::move(folder)} {}
  void read(const yaml_document& document);

private:
  void problem_at(position at, std::string what);
  std::string place(position at) const;
  void node_section(const yaml_node& map, const std::string& prefix);
  void node_entry(const yaml_node::entry& entry, const std::string& path);
  void models(const yaml_node& node);
  void model(const yaml_node::entry& entry);
  template <class Owner>
  bool assign(const key<Owner>& which, const yaml_node& node, Owner& owner);
  bool list_items(const yaml_node& node, const std::string& path, std::vector<std::string>& items);
  std::string resolved(const std::string& path) const;

  layers& into_;
  std::string name_;
  std::filesystem::path folder_;
  size_t nodes_ = 0; ///< visited: aliases may make a small file a huge tree
};

} // namespace troupe::config

#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe::config {

/// Where something stands in a file, counted from 1.
struct position {
  uint32_t line = 1;
  uint32_t column = 1;
};

/// One node of a YAML document. Aliases share their anchor's node, so a tree can be wide with
/// little memory: whoever walks it counts its steps.
struct yaml_node {
  enum class type : uint8_t { null, scalar, sequence, map };
  type kind = type::null;
  position at;
  std::string text;    ///< scalar
  bool quoted = false; ///< scalar: written in quotes or as a block
  std::vector<std::shared_ptr<yaml_node>> items;
  struct entry {
    std::string key;
    position at;
    std::shared_ptr<yaml_node> node;
  };
  std::vector<entry> entries; ///< map, in file order, keys unique
};

struct yaml_problem {
  position at;
  std::string what;
};

struct yaml_document {
  std::shared_ptr<yaml_node> root; ///< null node for an empty document
  std::optional<yaml_problem> problem;
};

/// Reads one document. Everything that YAML allows but a configuration does not need (several
/// documents, tags, keys that are not scalars, cycles) is a problem; never throws.
yaml_document read_yaml(const std::string& text);

} // namespace troupe::config

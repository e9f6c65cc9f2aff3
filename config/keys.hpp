#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "config/settings.hpp"

/// The one table of configuration keys. The YAML reader, the environment, the command line, the
/// JSON Schema and `troupe config show` all follow it, so they cannot disagree.
namespace troupe::config {

enum class kind : uint8_t {
  boolean,
  count,      ///< whole number within [min, max]
  size,       ///< bytes
  memory,     ///< bytes or percent
  duration,   ///< not negative, within [min, max] milliseconds
  keep_alive, ///< duration or negative
  address,    ///< HOST:PORT
  text,
  choice,     ///< one of `choices`
  paths,      ///< list of files or directories
  names,      ///< list of texts
  references, ///< a text, or a list of them
  path,       ///< a file or directory; may be empty
  toggle_path ///< true, false or a directory; held as "on", "off" or the path
};

using value = std::variant<bool, uint64_t, std::string, std::vector<std::string>,
                           std::chrono::milliseconds, memory_amount, host_port>;

template <class Owner>
struct key {
  std::string_view path; ///< "engine.kv_memory"
  kind type;
  std::string_view about; ///< one sentence for people
  uint64_t min = 0;
  uint64_t max = 0;
  std::span<const std::string_view> choices{};
  void (*assign)(Owner&, value&&) = nullptr;
  std::optional<value> (*read)(const Owner&) = nullptr; ///< nothing = unset
};

std::span<const key<settings>> node_keys();
/// Keys of one entry under `models:`.
std::span<const key<model_settings>> model_keys();
/// Null when there is none.
const key<settings>* find_key(std::string_view path);
const key<model_settings>* find_model_key(std::string_view path);
/// Keys of the table, and of a model ("models.NAME"), whose values differ.
std::vector<std::string> differences(const settings& a, const settings& b);
/// What stands before the dot, in table order, without repeats: "cluster", "engine" ...
std::vector<std::string_view> section_names();

/// What the rules of a key say about a text. `strict` is the file's rule (true and false only),
/// else on/off, yes/no, 1/0 do as well. Lists: see parse_list.
caf::expected<value> parse_value(kind type, uint64_t min, uint64_t max,
                                 std::span<const std::string_view> choices, std::string_view text,
                                 bool strict);
template <class Owner>
caf::expected<value> parse_value(const key<Owner>& which, std::string_view text, bool strict) {
  return parse_value(which.type, which.min, which.max, which.choices, text, strict);
}
bool is_list(kind type);
/// A text as YAML, in quotes where it would otherwise mean something else.
std::string yaml_text(const std::string& text);
/// As it would stand in a file; lists in brackets.
std::string format_value(kind type, const value& what);
/// "engine.kv_memory" -> "TROUPE_ENGINE_KV_MEMORY".
std::string environment_name(std::string_view path);

/// The candidate that `text` is most likely a misspelling of, or empty.
std::string_view closest(std::string_view text, std::span<const std::string_view> candidates);

} // namespace troupe::config

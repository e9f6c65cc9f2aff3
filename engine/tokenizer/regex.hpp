#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace troupe::engine {

/// A compiled pattern of a tokenizer.json (Oniguruma or Rust syntax, the common part). Matching
/// is const and thread safe.
class regex {
public:
  /// `literal` takes the pattern as plain text.
  static caf::expected<regex> compile(std::string_view pattern, bool literal,
                                      const std::string& origin);
  struct match {
    size_t begin = std::string_view::npos;
    size_t end = std::string_view::npos;
    explicit operator bool() const { return begin != std::string_view::npos; }
  };
  /// The first match at or after `from` in valid UTF-8. A search that exceeds PCRE2's limits
  /// (a catastrophic pattern) counts as no match.
  match find(std::string_view text, size_t from) const;

private:
  struct code;
  std::shared_ptr<const code> code_;
};

/// `text` with every match of `pattern` replaced by `content`, taken literally.
std::string replace_all(const regex& pattern, std::string_view text, std::string_view content);

} // namespace troupe::engine

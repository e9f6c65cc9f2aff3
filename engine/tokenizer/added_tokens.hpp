#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/bpe.hpp"
#include "engine/tokenizer/normalizer.hpp"

namespace troupe::engine {

/// One entry of tokenizer.json's `added_tokens`.
struct added_token {
  token_id id = 0;
  std::string content;
  bool special = false;
  bool single_word = false; ///< only where no word character touches it
  bool lstrip = false;      ///< takes the white space before it
  bool rstrip = false;      ///< takes the white space behind it
  bool normalized = false;  ///< looked for in the normalized text
  std::string piece;        ///< what it decodes from: the normalized content where `normalized`
};

/// Finds added tokens in a text: leftmost, then longest.
class added_token_matcher {
public:
  added_token_matcher() : nodes_(1) {}
  /// `pattern` is what the text holds for the token, not empty.
  void add(std::string_view pattern, const added_token* token);

  struct part {
    size_t begin = 0;
    size_t end = 0;
    const added_token* token = nullptr; ///< null: text between tokens
  };
  /// Cuts `text` into tokens and the text between them. Special tokens are text when not wanted.
  std::vector<part> split(std::string_view text, bool want_special) const;

private:
  struct node {
    std::vector<std::pair<unsigned char, int32_t>> children; // few: linear search
    const added_token* token = nullptr;
  };
  const added_token* longest_at(std::string_view text, size_t at, size_t& end) const;
  std::vector<node> nodes_;
  bool starts_[256] = {};
};

} // namespace troupe::engine

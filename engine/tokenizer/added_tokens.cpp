#include "engine/tokenizer/added_tokens.hpp"

#include <algorithm>

#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {

namespace {

/// Where the white space that ends `text` begins.
size_t trailing_space(std::string_view text) {
  size_t at = text.size();
  while (at > 0) {
    size_t begin = at - 1;
    while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xc0) == 0x80)
      --begin;
    size_t end = begin;
    if (!utf8::is_whitespace(utf8::next(text, end)))
      break;
    at = begin;
  }
  return at;
}

size_t leading_space(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    size_t end = at;
    if (!utf8::is_whitespace(utf8::next(text, end)))
      break;
    at = end;
  }
  return at;
}

bool word_touches(std::string_view text, size_t begin, size_t end) {
  if (begin > 0) {
    size_t at = begin - 1;
    while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80)
      --at;
    if (utf8::is_word(utf8::next(text, at)))
      return true;
  }
  return end < text.size() && utf8::is_word(utf8::next(text, end));
}

} // namespace

void added_token_matcher::add(std::string_view pattern, const added_token* token) {
  size_t at = 0;
  for (const char c : pattern) {
    const auto byte = static_cast<unsigned char>(c);
    auto& children = nodes_[at].children;
    const auto found = std::find_if(children.begin(), children.end(),
                                    [&](const auto& child) { return child.first == byte; });
    if (found != children.end()) {
      at = static_cast<size_t>(found->second);
      continue;
    }
    const auto made = static_cast<int32_t>(nodes_.size());
    children.emplace_back(byte, made);
    nodes_.emplace_back();
    at = static_cast<size_t>(made);
  }
  if (!nodes_[at].token) // the first of equal patterns wins
    nodes_[at].token = token;
  starts_[static_cast<unsigned char>(pattern.front())] = true;
}

const added_token* added_token_matcher::longest_at(std::string_view text, size_t at,
                                                   size_t& end) const {
  const added_token* best = nullptr;
  size_t node_at = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto& children = nodes_[node_at].children;
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto found = std::find_if(children.begin(), children.end(),
                                    [&](const auto& child) { return child.first == byte; });
    if (found == children.end())
      break;
    node_at = static_cast<size_t>(found->second);
    if (nodes_[node_at].token) {
      best = nodes_[node_at].token;
      end = i + 1;
    }
  }
  return best;
}

std::vector<added_token_matcher::part> added_token_matcher::split(std::string_view text,
                                                                  bool want_special) const {
  std::vector<part> parts;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    if (!starts_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    size_t end = at;
    const auto* token = longest_at(text, at, end);
    if (!token) {
      ++at;
      continue;
    }
    size_t begin = at, stop = end;
    at = end; // a match that is refused below is still stepped over
    if ((token->special && !want_special) ||
        (token->single_word && word_touches(text, begin, stop)))
      continue;
    if (token->lstrip)
      begin = std::max(trailing_space(text.substr(0, begin)), done);
    if (token->rstrip)
      stop += leading_space(text.substr(stop));
    if (done < begin)
      parts.push_back({done, begin, nullptr});
    parts.push_back({begin, stop, token});
    done = stop;
  }
  if (done < text.size())
    parts.push_back({done, text.size(), nullptr});
  return parts;
}

} // namespace troupe::engine

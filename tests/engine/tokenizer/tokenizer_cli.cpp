// Lets a script compare the tokenizer with another one. usage: tokenizer_cli tokenizer.json
// stdin: requests, each a 4-byte little-endian length and so many bytes of UTF-8 text.
// stdout, a line each: the ids with special tokens added; then, as JSON-free hex, the decoded text
// without and with special tokens, and what the stream decoder gives.
#include <cstdio>
#include <iostream>
#include <string>

#include "engine/tokenizer/stream_decoder.hpp"
#include "engine/tokenizer/tokenizer.hpp"

namespace {

using namespace troupe::engine;

std::string hex(const std::string& bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    out += digits[static_cast<unsigned char>(c) >> 4];
    out += digits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

std::string streamed(const std::shared_ptr<const tokenizer>& tokens,
                     const std::vector<token_id>& ids) {
  stream_decoder decoder{tokens};
  std::string out;
  for (const auto id : ids)
    out += decoder.push(id);
  return out + decoder.flush();
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 2)
    return 2;
  auto tokens = tokenizer::load(argv[1]);
  if (!tokens) {
    std::cerr << troupe::describe(tokens.error()) << '\n';
    return 1;
  }
  unsigned char head[4];
  while (std::fread(head, 1, 4, stdin) == 4) {
    std::string text(head[0] | head[1] << 8 | head[2] << 16 | static_cast<size_t>(head[3]) << 24,
                     '\0');
    if (std::fread(text.data(), 1, text.size(), stdin) != text.size())
      return 1;
    const auto ids = (*tokens)->encode(text);
    std::string line;
    for (const auto id : ids)
      line += std::to_string(id) + ' ';
    line += '\t' + hex((*tokens)->decode(ids, true)) + '\t' + hex((*tokens)->decode(ids, false)) +
            '\t' + hex(streamed(*tokens, ids)) + '\n';
    std::fwrite(line.data(), 1, line.size(), stdout);
  }
}

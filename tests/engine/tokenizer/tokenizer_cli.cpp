// Lets a script compare the tokenizer with another one. usage: tokenizer_cli tokenizer.json
// stdin: requests, each a kind, a 4-byte little-endian length and so many bytes:
//   e  UTF-8 text; answers its ids with special tokens added, then as for d
//   u  UTF-8 text that may not name special tokens; answers as for e
//   d  4-byte little-endian ids; answers what they decode to
// stdout, a line each, fields divided by tabs: ids (e and u), then in hex the text without and with
// special tokens, what the stream decoder gives for the same two, and what a stream decoder gives
// for the second half of the ids when primed with the first.
#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>

#include "engine/tokenizer/stream_decoder.hpp"
#include "engine/tokenizer/tokenizer.hpp"

namespace {

using namespace troupe::engine;
using id_span = std::span<const token_id>;

void append_hex(std::string& line, const std::string& bytes) {
  constexpr char digits[] = "0123456789abcdef";
  line += '\t';
  for (const char c : bytes) {
    line += digits[static_cast<unsigned char>(c) >> 4];
    line += digits[static_cast<unsigned char>(c) & 15];
  }
}

std::string streamed(stream_decoder decoder, id_span ids) {
  std::string out;
  for (const auto id : ids)
    out += decoder.push(id);
  return out + decoder.flush();
}

std::string answer(const std::shared_ptr<const tokenizer>& tokens, char kind,
                   const std::string& body) {
  std::vector<token_id> ids(body.size() / sizeof(token_id));
  std::string line;
  if (kind == 'd') {
    std::memcpy(ids.data(), body.data(), ids.size() * sizeof(token_id));
  } else {
    ids = tokens->encode(body, true, kind == 'e');
    for (const auto id : ids)
      line += std::to_string(id) + ' ';
  }
  append_hex(line, tokens->decode(ids, true));
  append_hex(line, tokens->decode(ids, false));
  append_hex(line, streamed(stream_decoder{tokens, true}, ids));
  append_hex(line, streamed(stream_decoder{tokens, false}, ids));
  const auto half = ids.size() / 2;
  stream_decoder primed{tokens};
  primed.prime(id_span{ids}.first(half));
  append_hex(line, streamed(std::move(primed), id_span{ids}.subspan(half)));
  return line + '\n';
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
  unsigned char head[5];
  while (std::fread(head, 1, sizeof head, stdin) == sizeof head) {
    std::string body(head[1] | head[2] << 8 | head[3] << 16 | static_cast<size_t>(head[4]) << 24,
                     '\0');
    if (std::fread(body.data(), 1, body.size(), stdin) != body.size())
      return 1;
    const auto line = answer(*tokens, static_cast<char>(head[0]), body);
    std::fwrite(line.data(), 1, line.size(), stdout);
  }
}

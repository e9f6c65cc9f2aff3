#include "engine/tokenizer/byte_alphabet.hpp"

#include <array>

#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine::byte_alphabet {

namespace {

bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

struct tables {
  std::array<std::string, 256> characters;
  std::array<int16_t, 0x200> bytes; // code point -> byte, -1 outside the alphabet

  tables() {
    bytes.fill(-1);
    char32_t free = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const char32_t c = stands_for_itself(byte) ? byte : free++;
      utf8::append(characters[byte], c);
      bytes[c] = static_cast<int16_t>(byte);
    }
  }
};

const tables& table() {
  static const tables built;
  return built;
}

} // namespace

std::string_view character(unsigned char byte) { return table().characters[byte]; }

std::string encode(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes)
    out += character(static_cast<unsigned char>(c));
  return out;
}

void decode(std::string_view text, std::string& out) {
  const auto before = out.size();
  for (size_t at = 0; at < text.size();) {
    const auto c = utf8::next(text, at);
    if (c >= table().bytes.size() || table().bytes[c] < 0) {
      out.resize(before);
      out += text;
      return;
    }
    out += static_cast<char>(table().bytes[c]);
  }
}

} // namespace troupe::engine::byte_alphabet

#pragma once
#include <string>
#include <string_view>

/// GPT-2's printable alphabet: every byte has a character, so that a vocabulary of text can hold
/// any bytes. Printable Latin-1 bytes stand for themselves, the others start at U+0100.
namespace troupe::engine::byte_alphabet {

/// The UTF-8 text of the character that stands for `byte`.
std::string_view character(unsigned char byte);
/// Any bytes -> characters.
std::string encode(std::string_view bytes);
/// Appends the bytes of `text`; a text with characters outside the alphabet is appended as it is.
void decode(std::string_view text, std::string& out);

} // namespace troupe::engine::byte_alphabet

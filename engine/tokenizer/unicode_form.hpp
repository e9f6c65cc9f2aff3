#pragma once
#include <string>
#include <string_view>

namespace troupe::engine {

/// The four Unicode normalization forms.
enum class unicode_form { nfc, nfd, nfkc, nfkd };

/// Valid UTF-8 -> its form, by the tables of Unicode 9, which the `tokenizers` package has: younger
/// characters stay what and where they are. Costs little where `text` is in its form already.
std::string to_form(unicode_form form, std::string_view text);

/// A mark of any kind (category M) by the same tables.
bool is_mark(char32_t c);

} // namespace troupe::engine

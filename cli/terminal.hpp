#pragma once
#include <cstddef>
#include <string_view>

namespace troupe::cli {

/// Columns that `text` takes on a terminal; bytes that are no UTF-8 count one each.
size_t display_width(std::string_view text);
/// Columns of the terminal at `descriptor`; 80 when it is none or does not say.
size_t terminal_columns(int descriptor);
/// A terminal that shows colours, and nobody asked for none (NO_COLOR, TERM=dumb).
bool colours_wanted(int descriptor);
/// Bytes of the UTF-8 character that begins with `first`; 1 for what cannot begin one.
size_t character_bytes(char first);

} // namespace troupe::cli

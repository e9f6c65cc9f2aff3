#include "cli/terminal.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <sys/ioctl.h>
#include <unistd.h>
#include <utf8proc.h>

namespace troupe::cli {

size_t display_width(std::string_view text) {
  size_t width = 0;
  const auto* at = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  auto left = static_cast<utf8proc_ssize_t>(text.size());
  while (left > 0) {
    utf8proc_int32_t point = 0;
    const auto used = utf8proc_iterate(at, left, &point);
    if (used <= 0) {
      width += 1;
      ++at;
      --left;
      continue;
    }
    width += static_cast<size_t>(std::max(utf8proc_charwidth(point), 0));
    at += used;
    left -= used;
  }
  return width;
}

size_t terminal_columns(int descriptor) {
  winsize size{};
  return ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

bool colours_wanted(int descriptor) {
  const char* none = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return isatty(descriptor) && !(none && *none) &&
         !(terminal && std::strcmp(terminal, "dumb") == 0);
}

size_t character_bytes(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte >= 0xf0 && byte < 0xf8   ? 4
         : byte >= 0xe0 && byte < 0xf0 ? 3
         : byte >= 0xc2 && byte < 0xe0 ? 2
                                       : 1;
}

} // namespace troupe::cli

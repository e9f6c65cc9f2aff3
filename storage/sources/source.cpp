#include "storage/sources/source.hpp"

#include <algorithm>
#include <cstring>

#include "storage/errors.hpp"

namespace troupe::storage {

std::string common_version(const source_file& file) {
  return file.sha256.empty() ? file.addressed : "sha256:" + file.sha256;
}

caf::error source::read(const source_file& file, uint64_t offset, std::span<std::byte> into,
                        std::stop_token stop) {
  size_t filled = 0;
  const auto take = [&](std::span<const std::byte> piece) -> caf::error {
    if (piece.size() > into.size() - filled)
      return caf::make_error(errc::malformed, name() + ": sent more than was asked for");
    std::memcpy(into.data() + filled, piece.data(), piece.size());
    filled += piece.size();
    return {};
  };
  return stream(file, {offset, into.size()}, take, std::move(stop));
}

std::optional<std::filesystem::path> source::local_path(const source_file&) const {
  return std::nullopt;
}

std::optional<std::chrono::milliseconds> wanted_pause(const caf::error& why) {
  if (const auto milliseconds = number_in(why))
    return std::chrono::milliseconds{*milliseconds};
  return std::nullopt;
}

bool is_inner_path(std::string_view path) {
  if (path.empty() || path.size() > 1024)
    return false;
  for (size_t at = 0; at <= path.size();) {
    const auto end = std::min(path.find('/', at), path.size());
    const auto part = path.substr(at, end - at);
    if (part.empty() || part == "." || part == "..")
      return false;
    at = end + 1;
  }
  return std::none_of(path.begin(), path.end(),
                      [](unsigned char c) { return c < 0x20 || c == 0x7f || c == '\\'; });
}

} // namespace troupe::storage

#include "storage/store/gguf_heads.hpp"

#include <algorithm>
#include <system_error>

#include "storage/errors.hpp"
#include "storage/gguf_files.hpp"
#include "storage/store/files.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

constexpr const char* heads_dir = ".heads";

fs::path heads_of(const fs::path& store, const std::string& name) {
  return store / heads_dir / percent_encode(name, false);
}

/// The head of one file of a source.
caf::expected<gguf_head> fetch_head(source& from, const source_file& file, const pull_setup& how,
                                    const std::stop_token& stop) {
  std::vector<std::byte> known; // each attempt is longer than the one before
  const auto read = [&](std::span<std::byte> into) -> caf::error {
    const auto keep = [&](std::span<const std::byte> piece) -> caf::error {
      known.insert(known.end(), piece.begin(), piece.end());
      return {};
    };
    // Where ranges do not work, a read begins anew.
    if (!file.ranged)
      known.clear();
    if (auto why = stream_with_retries(from, file, {known.size(), into.size() - known.size()}, keep,
                                       how.retries, stop))
      return why;
    std::ranges::copy(known, into.begin());
    return {};
  };
  return gguf_head::read(read, file.size_bytes, from.name() + "/" + file.path);
}

} // namespace

caf::expected<fs::path> fetch_gguf_heads(source& from, const std::vector<source_file>& files,
                                         const pull_setup& how, const std::string& name,
                                         const std::stop_token& stop) {
  auto dir = heads_of(how.store_dir, name);
  if (auto why = make_directories(dir))
    return why;
  for (const auto& file : files) {
    if (!is_gguf(file.path))
      continue;
    const auto head = fetch_head(from, file, how, stop);
    if (!head)
      return head.error();
    const auto bytes = head->bytes();
    const auto to = dir / fs::path{file.path}.filename();
    if (auto why = replace_file(to, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}))
      return why;
    std::error_code failed;
    fs::resize_file(to, file.size_bytes, failed); // a hole takes no room on the disk
    if (failed)
      return caf::make_error(errc::unreadable,
                             to.string() + ": cannot be written: " + failed.message());
  }
  return dir;
}

size_t remove_gguf_heads(const fs::path& store, const std::string& name) {
  std::vector<fs::path> gone;
  std::error_code failed;
  for (fs::directory_iterator it(store / heads_dir, failed), end; !failed && it != end;
       it.increment(failed)) {
    const auto of = percent_decode(it->path().filename().string());
    if (of == name || of.starts_with(name + ":") || of.starts_with(name + "/"))
      gone.push_back(it->path());
  }
  for (const auto& one : gone)
    fs::remove_all(one, failed);
  fs::remove(store / heads_dir, failed); // if it is empty
  return gone.size();
}

void drop_gguf_heads(const fs::path& store, const std::string& name) {
  std::error_code ignored;
  fs::remove_all(heads_of(store, name), ignored);
  fs::remove(store / heads_dir, ignored); // if it is empty
}

} // namespace troupe::storage

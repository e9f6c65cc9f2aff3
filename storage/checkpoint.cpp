#include "storage/checkpoint.hpp"

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

#include "storage/errors.hpp"
#include "storage/gguf_files.hpp"
#include "storage/shard_index.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

constexpr auto single_file = "model.safetensors";
constexpr auto index_file = "model.safetensors.index.json";

/// The header of a mapped file. It is read into memory of our own, because a parser must not run
/// over bytes that another process may change under it.
caf::expected<std::vector<tensor_entry>> read_header(const mapped_file& file) {
  const auto origin = file.path().string();
  std::array<std::byte, 64> first{};
  const auto known = std::min<uint64_t>(first.size(), file.size_bytes());
  if (auto why = file.read(0, std::span{first}.first(known)))
    return why;
  auto head_bytes =
      safetensors_head_bytes(std::span{first}.first(known), file.size_bytes(), origin);
  if (!head_bytes)
    return head_bytes.error();
  std::vector<std::byte> head(*head_bytes);
  if (auto why = file.read(0, head))
    return why;
  return parse_safetensors_header(head, file.size_bytes(), origin);
}

/// Says what is in a directory without safetensors weights, because the remedy depends on it.
caf::error no_weights(const fs::path& dir) {
  std::error_code failed;
  if (!fs::is_directory(dir, failed))
    return caf::make_error(errc::not_found, dir.string() + ": no such directory");
  std::string hint = "no model.safetensors and no model.safetensors.index.json in it";
  for (fs::directory_iterator it(dir, failed), end; !failed && it != end; it.increment(failed)) {
    const auto name = it->path().filename().string();
    if (name.ends_with(".gguf"))
      hint += "; name the file itself: " + it->path().string();
    else if (name.starts_with("pytorch_model"))
      hint += "; " + name + " must be converted to safetensors first";
    else if (name.ends_with(".safetensors"))
      hint += "; " + name + " alone is not enough";
    else
      continue;
    break;
  }
  return caf::make_error(errc::not_found, dir.string() + ": " + hint);
}

} // namespace

caf::expected<std::shared_ptr<const checkpoint>> checkpoint::open(const fs::path& path,
                                                                  file_places places) {
  const std::shared_ptr<checkpoint> out(new checkpoint);
  out->places_ = std::move(places);
  if (auto why = is_gguf(path) ? out->open_gguf(path) : out->open_dir(path))
    return why;
  out->headers_ = {};
  out->places_ = nullptr;
  return std::shared_ptr<const checkpoint>{out};
}

fs::path checkpoint::elsewhere(const fs::path& file) const {
  return places_ ? places_(file) : fs::path{};
}

caf::error checkpoint::open_dir(const fs::path& dir) {
  std::error_code failed;
  // symlink_status: a dangling link must be reported as such, not as an absent file.
  if (!elsewhere(dir / single_file).empty() ||
      fs::exists(fs::symlink_status(dir / single_file, failed))) {
    if (auto why = add_shard(dir / single_file))
      return why;
    for (auto& entry : headers_.front())
      keep(std::move(entry));
    return {};
  }
  if (fs::exists(fs::symlink_status(dir / index_file, failed)))
    return open_indexed(dir / index_file);
  return no_weights(dir);
}

caf::error checkpoint::add_shard(const fs::path& path) {
  auto file = mapped_file::open(path, elsewhere(path));
  if (!file)
    return file.error();
  auto header = read_header(*file);
  if (!header)
    return header.error();
  shards_.push_back(std::move(*file));
  headers_.push_back(std::move(*header));
  used_.push_back({});
  return {};
}

caf::error checkpoint::open_indexed(const fs::path& path) {
  auto file = mapped_file::open(path);
  if (!file)
    return file.error();
  if (file->size_bytes() > shard_index_bytes_max)
    return caf::make_error(errc::malformed, path.string() + ": is too large for an index");
  std::string text(file->size_bytes(), '\0');
  if (auto why = file->read(0, std::as_writable_bytes(std::span{text})))
    return why;
  if (is_lfs_pointer(text))
    return caf::make_error(errc::not_downloaded, path.string() + ": this is a Git LFS pointer");
  auto index = parse_shard_index(text, path.string());
  if (!index)
    return index.error();
  for (const auto& [name, tensors] : *index) {
    std::error_code failed;
    const auto shard = path.parent_path() / name;
    if (elsewhere(shard).empty() && !fs::exists(shard, failed))
      return caf::make_error(errc::not_found, path.parent_path().string() + ": shard " + name +
                                                  " of the index is missing; download it");
    if (auto why = add_shard(shard))
      return why;
    std::unordered_map<std::string_view, tensor_entry*> found;
    for (auto& entry : headers_.back())
      found.emplace(entry.name, &entry);
    for (const auto& tensor : tensors) {
      const auto at = found.find(tensor);
      if (at == found.end())
        return caf::make_error(errc::inconsistent, path.string() + ": says that tensor \"" +
                                                       tensor + "\" is in " + name +
                                                       ", but it is not");
      // A copy: the header's own names are the keys of `found`.
      auto entry = *at->second;
      entry.shard = static_cast<uint32_t>(shards_.size() - 1);
      keep(std::move(entry));
    }
  }
  return {};
}

void checkpoint::keep(tensor_entry entry) {
  size_bytes_ += entry.size_bytes;
  if (entry.size_bytes != 0) {
    auto& used = used_[entry.shard];
    const auto last = entry.offset_bytes + entry.size_bytes;
    used.first = used.last == 0 ? entry.offset_bytes : std::min(used.first, entry.offset_bytes);
    used.last = std::max(used.last, last);
  }
  auto name = entry.name;
  tensors_.emplace(std::move(name), std::move(entry));
}

std::optional<tensor_view> checkpoint::find(std::string_view name) const {
  const auto at = tensors_.find(name);
  if (at == tensors_.end())
    return std::nullopt;
  const auto& entry = at->second;
  const auto bytes = shards_[entry.shard].bytes().subspan(entry.offset_bytes, entry.size_bytes);
  return tensor_view{entry.type, entry.shape, bytes};
}

std::vector<std::string> checkpoint::names() const {
  std::vector<std::string> out;
  out.reserve(tensors_.size());
  for (const auto& [name, entry] : tensors_)
    out.push_back(name);
  std::sort(out.begin(), out.end());
  return out;
}

caf::error checkpoint::warm(std::function<bool(uint64_t done, uint64_t total)> progress,
                            uint64_t chunk_bytes) const {
  chunk_bytes = std::max<uint64_t>(chunk_bytes, 4096);
  uint64_t done = 0, total = 0;
  for (const auto& used : used_)
    total += used.last - used.first;
  const auto stop = [&] { return caf::make_error(errc::cancelled, "the load was cancelled"); };
  if (!progress(0, total))
    return stop();
  for (size_t i = 0; i < shards_.size(); ++i) {
    const auto& shard = shards_[i];
    for (uint64_t at = used_[i].first; at < used_[i].last;) {
      const auto length = std::min(chunk_bytes, used_[i].last - at);
      // Two chunks ahead: the disk works while the pages of this one are mapped.
      shard.prefetch(at + length, 2 * chunk_bytes);
      if (auto why = shard.populate(at, length))
        return why;
      at += length;
      done += length;
      if (!progress(done, total))
        return stop();
    }
  }
  return {};
}

caf::error checkpoint::check_unchanged() const {
  for (const auto& shard : shards_)
    if (auto why = shard.check_unchanged())
      return why;
  return {};
}

} // namespace troupe::storage

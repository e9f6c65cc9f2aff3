#include "storage/gguf_files.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <unordered_set>
#include <utility>

#include "storage/checkpoint.hpp"
#include "storage/errors.hpp"
#include "storage/safetensors.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t head_bytes_first = uint64_t{1} << 20;
constexpr uint64_t head_bytes_max = uint64_t{512} << 20;
/// Any real model is in fewer files, and a name must not make a long list.
constexpr uint32_t parts_max = 10'000;

std::string part_name(const gguf_part& part) {
  std::array<char, 64> mark{};
  std::snprintf(mark.data(), mark.size(), "-%05u-of-%05u.gguf", part.number, part.count);
  return part.name + mark.data();
}

std::optional<uint64_t> number_of(const metadata& values, std::string_view key) {
  const auto found = values.find(key);
  if (found == values.end())
    return std::nullopt;
  if (const auto* x = std::get_if<uint64_t>(&found->second))
    return *x;
  if (const auto* x = std::get_if<int64_t>(&found->second); x && *x >= 0)
    return static_cast<uint64_t>(*x);
  return std::nullopt;
}

} // namespace

bool is_gguf(const fs::path& path) { return path.extension() == ".gguf"; }

std::optional<gguf_part> gguf_part_of(std::string_view file_name) {
  // "-00002-of-00005.gguf"
  constexpr size_t mark_size = 20;
  if (file_name.size() <= mark_size || !file_name.ends_with(".gguf"))
    return std::nullopt;
  const auto mark = file_name.substr(file_name.size() - mark_size);
  const auto read = [&](size_t at, uint32_t& out) {
    const auto* end = mark.data() + at + 5;
    return std::from_chars(mark.data() + at, end, out).ptr == end;
  };
  gguf_part out;
  if (mark[0] != '-' || mark.substr(6, 4) != "-of-" || !read(1, out.number) ||
      !read(10, out.count) || out.number == 0 || out.number > out.count || out.count > parts_max)
    return std::nullopt;
  out.name = file_name.substr(0, file_name.size() - mark_size);
  return out;
}

std::string gguf_model_name(const fs::path& path) {
  const auto part = gguf_part_of(path.filename().string());
  return part ? part->name : path.stem().string();
}

std::vector<fs::path> gguf_parts(const fs::path& path) {
  auto part = gguf_part_of(path.filename().string());
  if (!part)
    return {path};
  std::vector<fs::path> out;
  for (part->number = 1; part->number <= part->count; ++part->number)
    out.push_back(path.parent_path() / part_name(*part));
  return out;
}

caf::expected<gguf_head> gguf_head::read(const mapped_file& file) {
  return read([&](std::span<std::byte> into) { return file.read(0, into); }, file.size_bytes(),
              file.path().string());
}

caf::expected<gguf_head> gguf_head::read(const reader& from, uint64_t size,
                                         const std::string& origin) {
  // How long the head is shows only at its end: more is read until it fits.
  for (auto length = std::min(head_bytes_first, size);; length = std::min(length * 4, size)) {
    gguf_head out;
    out.bytes_.resize(length);
    if (auto why = from(out.bytes_))
      return why;
    if (is_lfs_pointer({reinterpret_cast<const char*>(out.bytes_.data()), length}))
      return caf::make_error(errc::not_downloaded,
                             origin + ": is a Git LFS pointer, the weights were not downloaded "
                                      "(run `git lfs pull`)");
    auto header = parse_gguf(out.bytes_, size, origin);
    if (header) {
      out.header_ = std::move(*header);
      return out;
    }
    if (header.error() != errc::short_read || length == size)
      return header.error();
    if (length >= head_bytes_max)
      return caf::make_error(errc::malformed, origin + ": has a header of more than 512 MiB");
  }
}

caf::expected<gguf_head> gguf_head::read_first(const fs::path& path, const fs::path& at) {
  const auto first = gguf_parts(path).front();
  auto file = mapped_file::open(first, at);
  if (!file)
    return file.error();
  auto out = read(*file);
  if (!out)
    return out;
  if (auto why = check_gguf_part(out->header().values, first))
    return why;
  return out;
}

std::string gguf_architecture(const mapped_file& file) {
  // magic, version, two counts, then the first name and value, both texts
  constexpr std::string_view key = "general.architecture";
  struct {
    uint32_t magic, version;
    uint64_t tensors, values, key_bytes;
    char key[20];
    uint32_t type;
    uint64_t text_bytes;
    char text[64];
  } __attribute__((packed)) head{};
  const auto known = std::min<uint64_t>(sizeof head, file.size_bytes());
  if (file.read(0, std::as_writable_bytes(std::span{&head, 1}).first(known)))
    return {};
  if (head.magic != 0x46554747 || head.key_bytes != key.size() ||
      std::string_view{head.key, sizeof head.key} != key || head.type != 8 ||
      head.text_bytes > sizeof head.text)
    return {};
  return {head.text, head.text_bytes};
}

caf::error check_gguf_part(const metadata& values, const fs::path& path) {
  const auto count = number_of(values, "split.count").value_or(1);
  const auto number = number_of(values, "split.no").value_or(0) + 1;
  const auto named = gguf_part_of(path.filename().string());
  if (count == (named ? named->count : 1) && (count == 1 || number == named->number))
    return {};
  if (count == 1)
    return caf::make_error(errc::inconsistent, path.string() +
                                                   ": is named like a part of a split model, but "
                                                   "is a whole one; rename it");
  return caf::make_error(errc::inconsistent, path.string() + ": is part " + std::to_string(number) +
                                                 " of " + std::to_string(count) +
                                                 " of a split model, but not named so; download "
                                                 "all parts under their own names");
}

caf::error checkpoint::open_gguf(const fs::path& path) {
  std::optional<uint64_t> promised;
  const auto parts = gguf_parts(path);
  for (const auto& part : parts) {
    std::error_code failed;
    const auto at = elsewhere(part);
    if (at.empty() && parts.size() > 1 &&
        fs::symlink_status(part, failed).type() == fs::file_type::not_found)
      return caf::make_error(errc::not_found, part.string() + ": this part of a model in " +
                                                  std::to_string(parts.size()) +
                                                  " files is missing; download it");
    auto file = mapped_file::open(part, at);
    if (!file)
      return file.error();
    const auto head = gguf_head::read(*file);
    if (!head)
      return head.error();
    const auto& header = head->header();
    if (auto why = check_gguf_part(header.values, part))
      return why;
    if (!promised)
      promised = number_of(header.values, "split.tensors.count");
    if (auto why = add_gguf_part(std::move(*file), header))
      return why;
  }
  if (parts.size() > 1 && promised && *promised != tensors_.size())
    return caf::make_error(errc::inconsistent,
                           path.string() + ": the parts hold " + std::to_string(tensors_.size()) +
                               " tensors, but the first one promises " + std::to_string(*promised));
  return {};
}

caf::error checkpoint::add_gguf_part(mapped_file file, const gguf_header& header) {
  const auto shard = static_cast<uint32_t>(shards_.size());
  used_.push_back({});
  for (const auto& tensor : header.tensors) {
    if (tensors_.contains(tensor.name))
      return caf::make_error(errc::inconsistent, file.path().string() + ": holds tensor \"" +
                                                     std::string{tensor.name} +
                                                     "\", which another part holds as well");
    keep({std::string{tensor.name}, tensor.type, tensor.shape, shard, tensor.offset_bytes,
          tensor.size_bytes});
  }
  shards_.push_back(std::move(file));
  return {};
}

} // namespace troupe::storage

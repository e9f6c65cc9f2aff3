#include "storage/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <unordered_set>
#include <utility>

#include <simdjson.h>

#include "storage/errors.hpp"
#include "storage/shown.hpp"

namespace troupe::storage {

namespace {

namespace dom = simdjson::dom;

constexpr uint64_t length_field_bytes = 8;

caf::error malformed(const std::string& origin, const std::string& what) {
  return caf::make_error(errc::malformed, origin + ": " + what);
}

std::optional<dtype> parse_dtype(std::string_view text) {
  static constexpr std::pair<std::string_view, dtype> table[] = {
      {"BF16", dtype::bf16},    {"F16", dtype::f16},         {"F32", dtype::f32},
      {"F64", dtype::f64},      {"I64", dtype::i64},         {"I32", dtype::i32},
      {"I16", dtype::i16},      {"I8", dtype::i8},           {"U8", dtype::u8},
      {"BOOL", dtype::boolean}, {"F8_E4M3", dtype::f8_e4m3}, {"F8_E5M2", dtype::f8_e5m2},
  };
  for (const auto& [name, type] : table)
    if (name == text)
      return type;
  return std::nullopt;
}

/// The members of one tensor's object, not yet interpreted.
struct raw_tensor {
  std::optional<std::string_view> type;
  std::optional<dom::array> shape;
  std::optional<dom::array> offsets;
};

/// Reads `value` into `slot`; false if it has another JSON type or came before.
template <class T>
bool take(dom::element value, std::optional<T>& slot) {
  T out;
  if (slot || value.get(out) != simdjson::SUCCESS)
    return false;
  slot = out;
  return true;
}

class header_parser {
public:
  header_parser(const std::string& origin, uint64_t data_begin, uint64_t data_bytes)
      : origin_{origin}, data_begin_{data_begin}, data_bytes_{data_bytes} {}

  caf::expected<std::vector<tensor_entry>> run(dom::object header) {
    std::unordered_set<std::string_view> seen;
    for (const auto [name, value] : header) {
      if (!seen.insert(name).second)
        return malformed(origin_, "the header names " + shown(name) + " twice");
      if (auto why = name == "__metadata__" ? check_metadata(value) : add(name, value))
        return why;
    }
    if (auto why = check_layout())
      return why;
    return std::move(tensors_);
  }

private:
  caf::error bad(std::string_view name, const std::string& what) const {
    return malformed(origin_, "tensor " + shown(name) + " " + what);
  }

  caf::error check_metadata(dom::element value) const {
    dom::object fields;
    if (value.get(fields) != simdjson::SUCCESS)
      return malformed(origin_, "__metadata__ is not an object");
    for (const auto field : fields)
      if (!field.value.is_string())
        return malformed(origin_, "__metadata__ holds something else than text");
    return {};
  }

  caf::error add(std::string_view name, dom::element value) {
    dom::object fields;
    if (value.get(fields) != simdjson::SUCCESS)
      return bad(name, "is not described by an object");
    raw_tensor raw;
    for (const auto [key, field] : fields) {
      const bool good = key == "dtype"          ? take(field, raw.type)
                        : key == "shape"        ? take(field, raw.shape)
                        : key == "data_offsets" ? take(field, raw.offsets)
                                                : true;
      if (!good)
        return bad(name, "has a wrong or repeated member " + shown(key));
    }
    if (!raw.type || !raw.shape || !raw.offsets)
      return bad(name, "lacks dtype, shape or data_offsets");
    const auto type = parse_dtype(*raw.type);
    if (!type)
      return caf::make_error(errc::unsupported, origin_ + ": tensor " + shown(name) +
                                                    " has the unknown element type " +
                                                    shown(*raw.type));
    tensor_entry entry;
    entry.name = name;
    entry.type = *type;
    if (auto why = read_shape(*raw.shape, entry))
      return why;
    if (auto why = read_offsets(*raw.offsets, entry))
      return why;
    tensors_.push_back(std::move(entry));
    return {};
  }

  /// Sets shape and size.
  caf::error read_shape(dom::array shape, tensor_entry& entry) const {
    uint64_t bytes = size_of(entry.type);
    for (const auto element : shape) {
      uint64_t extent = 0;
      if (element.get(extent) != simdjson::SUCCESS ||
          extent > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        return bad(entry.name, "has a shape that is not made of whole numbers");
      if (__builtin_mul_overflow(bytes, extent, &bytes))
        return bad(entry.name, "has a shape whose size overflows 64 bits");
      entry.shape.push_back(static_cast<int64_t>(extent));
    }
    entry.size_bytes = bytes;
    return {};
  }

  /// Sets the offset, for the time being relative to the data.
  caf::error read_offsets(dom::array offsets, tensor_entry& entry) const {
    uint64_t ends[2] = {};
    size_t count = 0;
    for (const auto element : offsets) {
      if (count == 2 || element.get(ends[count]) != simdjson::SUCCESS)
        return bad(entry.name, "has data_offsets that are not two whole numbers");
      ++count;
    }
    if (count != 2 || ends[0] > ends[1])
      return bad(entry.name, "has data_offsets that are not a first and a last");
    if (ends[1] - ends[0] != entry.size_bytes)
      return bad(entry.name, "has " + std::to_string(ends[1] - ends[0]) +
                                 " bytes of data, but its shape and element type need " +
                                 std::to_string(entry.size_bytes));
    entry.offset_bytes = ends[0];
    return {};
  }

  /// Sorts by position, demands that the tensors tile the data, and makes offsets absolute.
  caf::error check_layout() {
    std::stable_sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) {
      return std::pair{a.offset_bytes, a.size_bytes} < std::pair{b.offset_bytes, b.size_bytes};
    });
    uint64_t end = 0;
    for (auto& entry : tensors_) {
      if (entry.offset_bytes < end)
        return bad(entry.name, "overlaps the tensor before it");
      if (entry.offset_bytes > end)
        return bad(entry.name, "leaves a gap of " + std::to_string(entry.offset_bytes - end) +
                                   " bytes before it");
      end = entry.offset_bytes + entry.size_bytes; // cannot overflow: it is data_offsets[1]
      if (end > data_bytes_)
        return caf::make_error(errc::short_read,
                               origin_ + ": tensor " + shown(entry.name) + " ends " +
                                   std::to_string(end - data_bytes_) +
                                   " bytes past the end of the file; download it again");
      entry.offset_bytes += data_begin_;
    }
    if (end != data_bytes_)
      return malformed(origin_, std::to_string(data_bytes_ - end) +
                                    " bytes follow the last tensor; the file is damaged");
    return {};
  }

  const std::string& origin_;
  uint64_t data_begin_;
  uint64_t data_bytes_;
  std::vector<tensor_entry> tensors_;
};

} // namespace

bool is_lfs_pointer(std::string_view head) {
  return head.starts_with("version https://git-lfs.github.com/spec/");
}

caf::expected<uint64_t> safetensors_head_bytes(std::span<const std::byte> head, uint64_t file_size,
                                               const std::string& origin) {
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  if (is_lfs_pointer(text))
    return caf::make_error(errc::not_downloaded,
                           origin + ": this is a Git LFS pointer, the weights were not downloaded "
                                    "(run `git lfs pull` in its repository)");
  if (file_size == 0)
    return caf::make_error(errc::short_read, origin + ": the file is empty");
  if (file_size < length_field_bytes || head.size() < length_field_bytes)
    return caf::make_error(errc::short_read, origin + ": " + std::to_string(file_size) +
                                                 " bytes are too few for a safetensors file");
  uint64_t length = 0; // little endian, as every machine that this project runs on
  static_assert(std::endian::native == std::endian::little);
  std::memcpy(&length, head.data(), length_field_bytes);
  if (length > safetensors_header_bytes_max)
    return malformed(origin, "is not a safetensors file: its header would be " +
                                 std::to_string(length) + " bytes long, more than " +
                                 std::to_string(safetensors_header_bytes_max));
  if (length > file_size - length_field_bytes)
    return caf::make_error(errc::short_read, origin + ": the header is " + std::to_string(length) +
                                                 " bytes long, but the file ends after " +
                                                 std::to_string(file_size) + "; download it again");
  return length_field_bytes + length;
}

caf::expected<std::vector<tensor_entry>> parse_safetensors_header(std::span<const std::byte> head,
                                                                  uint64_t file_size,
                                                                  const std::string& origin) {
  auto data_begin = safetensors_head_bytes(head, file_size, origin);
  if (!data_begin)
    return data_begin.error();
  if (head.size() < *data_begin)
    return caf::make_error(errc::short_read, origin + ": the file ended inside its header");
  const auto json = head.subspan(length_field_bytes, *data_begin - length_field_bytes);
  if (json.empty() || json.front() != std::byte{'{'})
    return malformed(origin, "the header does not begin with '{'");
  // DOM, not On-Demand: the whole header is validated, also the parts nobody asks for.
  dom::parser parser;
  dom::object header;
  const auto* text = reinterpret_cast<const char*>(json.data());
  if (const auto code = parser.parse(text, json.size()).get(header))
    return malformed(origin,
                     std::string{"the header is not JSON: "} + simdjson::error_message(code));
  return header_parser(origin, *data_begin, file_size - *data_begin).run(header);
}

} // namespace troupe::storage

#include "storage/gguf.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>
#include <unordered_set>
#include <utility>

#include "storage/errors.hpp"
#include "storage/gguf_blocks.hpp"
#include "storage/shown.hpp"

namespace troupe::storage {

namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t default_alignment = 32;
constexpr uint32_t dimensions_max = 4;

/// Metadata value types as numbered in a file.
enum class value_type : uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  text,
  array,
  u64,
  i64,
  f64
};

class gguf_parser {
public:
  gguf_parser(std::span<const std::byte> head, uint64_t file_bytes, const std::string& origin)
      : file_{head}, file_bytes_{file_bytes}, origin_{origin} {}

  caf::expected<gguf_header> run() {
    if (!read_header() || !read_metadata() || !read_tensors() || !check_layout())
      return std::move(error_);
    return std::move(out_);
  }

private:
  bool fail(errc code, const std::string& what) {
    error_ = caf::make_error(code, origin_ + ": " + what);
    return false;
  }

  bool ended() {
    return fail(errc::short_read, "the file ended inside its header; download it again");
  }

  template <class T>
  bool read(T& value) {
    if (file_.size() - at_ < sizeof(T))
      return ended();
    std::memcpy(&value, file_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return true;
  }

  bool read(std::string_view& text) {
    uint64_t length = 0;
    if (!read(length))
      return false;
    if (length > file_.size() - at_)
      return ended();
    text = {reinterpret_cast<const char*>(file_.data()) + at_, static_cast<size_t>(length)};
    at_ += length;
    return true;
  }

  bool read_header() {
    uint32_t magic = 0;
    if (!read(magic))
      return false;
    if (magic != 0x46554747) // "GGUF"
      return fail(errc::malformed, "is not a GGUF file: it does not begin with \"GGUF\"");
    if (!read(out_.version))
      return false;
    if (out_.version != 2 && out_.version != 3)
      return fail(errc::unsupported, "GGUF version " + std::to_string(out_.version) +
                                         " is not read, only little-endian 2 and 3");
    return read(tensor_count_) && read(metadata_count_);
  }

  /// Reads one `Stored` and widens it.
  template <class Stored, class Out>
  bool read_as(Out& out) {
    Stored value{};
    if (!read(value))
      return false;
    if constexpr (std::is_same_v<Out, bool>)
      out = value != 0;
    else
      out = static_cast<Out>(value);
    return true;
  }

  template <class Stored, class Wide, class Out>
  bool read_into(Out& out, std::optional<uint64_t> count) {
    if (!count) {
      Wide value{};
      if (!read_as<Stored>(value))
        return false;
      if constexpr (std::is_same_v<Out, metadata_value>)
        out = value;
      return true;
    }
    // No reservation beyond what the rest of the file can hold.
    const size_t least = std::is_same_v<Stored, std::string_view> ? 8 : sizeof(Stored);
    if (*count > (file_.size() - at_) / least)
      return ended();
    std::vector<Wide> values;
    values.reserve(static_cast<size_t>(*count));
    for (uint64_t i = 0; i < *count; ++i) {
      Wide value{};
      if (!read_as<Stored>(value))
        return false;
      values.push_back(value);
    }
    out = metadata_list{std::move(values)};
    return true;
  }

  /// A value of `type`, or an array of `count` of them.
  bool read_value(std::string_view key, uint32_t type, std::optional<uint64_t> count,
                  metadata_value& out) {
    switch (static_cast<value_type>(type)) {
    case value_type::u8:
      return read_into<uint8_t, uint64_t>(out, count);
    case value_type::i8:
      return read_into<int8_t, int64_t>(out, count);
    case value_type::u16:
      return read_into<uint16_t, uint64_t>(out, count);
    case value_type::i16:
      return read_into<int16_t, int64_t>(out, count);
    case value_type::u32:
      return read_into<uint32_t, uint64_t>(out, count);
    case value_type::i32:
      return read_into<int32_t, int64_t>(out, count);
    case value_type::f32:
      return read_into<float, double>(out, count);
    case value_type::boolean:
      return read_into<uint8_t, bool>(out, count);
    case value_type::text:
      return read_into<std::string_view, std::string_view>(out, count);
    case value_type::u64:
      return read_into<uint64_t, uint64_t>(out, count);
    case value_type::i64:
      return read_into<int64_t, int64_t>(out, count);
    case value_type::f64:
      return read_into<double, double>(out, count);
    case value_type::array:
      if (count)
        return fail(errc::unsupported, "metadata " + shown(key) + " is an array of arrays");
      uint32_t element = 0;
      uint64_t length = 0;
      return read(element) && read(length) && read_value(key, element, length, out);
    }
    return fail(errc::malformed,
                "metadata " + shown(key) + " has the unknown type " + std::to_string(type));
  }

  bool read_metadata() {
    for (uint64_t i = 0; i < metadata_count_; ++i) { // every turn consumes bytes or fails
      std::string_view key;
      uint32_t type = 0;
      metadata_value value;
      if (!read(key) || !read(type) || !read_value(key, type, std::nullopt, value))
        return false;
      if (!out_.values.emplace(key, std::move(value)).second)
        return fail(errc::malformed, "the metadata name " + shown(key) + " twice");
    }
    const auto found = out_.values.find("general.alignment");
    if (found == out_.values.end())
      return true;
    const auto* alignment = std::get_if<uint64_t>(&found->second);
    if (!alignment || !std::has_single_bit(*alignment) || *alignment > (uint64_t{1} << 30))
      return fail(errc::malformed, "general.alignment is not a power of two up to 2^30");
    alignment_ = *alignment;
    return true;
  }

  bool bad(const gguf_tensor& tensor, const std::string& what) {
    return fail(errc::malformed, "tensor " + shown(tensor.name) + " " + what);
  }

  /// Reads the extents and the type; sets shape, type and size.
  bool read_shape(gguf_tensor& tensor) {
    uint32_t rank = 0;
    if (!read(rank))
      return false;
    if (rank == 0 || rank > dimensions_max)
      return bad(tensor, "has " + std::to_string(rank) + " dimensions; 1 to 4 are allowed");
    uint64_t elements = 1;
    for (uint32_t i = 0; i < rank; ++i) {
      uint64_t extent = 0;
      if (!read(extent))
        return false;
      if (extent > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
          __builtin_mul_overflow(elements, extent, &elements))
        return bad(tensor, "has a shape whose size overflows 64 bits");
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(extent));
    }
    uint32_t type = 0;
    if (!read(type))
      return false;
    const auto known = ggml_dtype(type);
    if (!known) {
      const auto name = ggml_type_name(type);
      return fail(
          errc::unsupported,
          "tensor " + shown(tensor.name) + " holds " +
              (name.empty() ? "the element type " + std::to_string(type) : std::string{name}) +
              ", which is not supported; supported are F32, F16, BF16, Q8_0, Q4_0, Q4_1, "
              "Q5_0, Q5_1, Q4_K, Q5_K and Q6_K");
    }
    const auto layout = layout_of(*known);
    if (static_cast<uint64_t>(tensor.shape.back()) % layout.elements != 0)
      return bad(tensor, "has rows that are no whole number of blocks");
    tensor.type = *known;
    if (__builtin_mul_overflow(elements / layout.elements, uint64_t{layout.bytes},
                               &tensor.size_bytes))
      return bad(tensor, "has a shape whose size overflows 64 bits");
    return true;
  }

  bool read_tensors() {
    std::unordered_set<std::string_view> seen;
    for (uint64_t i = 0; i < tensor_count_; ++i) {
      gguf_tensor tensor;
      if (!read(tensor.name) || !read_shape(tensor) || !read(tensor.offset_bytes))
        return false;
      if (!seen.insert(tensor.name).second)
        return bad(tensor, "is described twice");
      if (tensor.offset_bytes % alignment_ != 0)
        return bad(tensor, "is not aligned to " + std::to_string(alignment_) + " bytes");
      out_.tensors.push_back(std::move(tensor));
    }
    return true;
  }

  /// Sorts by position, makes offsets absolute, and refuses what overlaps or leaves the file.
  bool check_layout() {
    const uint64_t begin = (at_ + alignment_ - 1) / alignment_ * alignment_;
    const uint64_t data_bytes = file_bytes_ < begin ? 0 : file_bytes_ - begin;
    std::stable_sort(out_.tensors.begin(), out_.tensors.end(), [](const auto& a, const auto& b) {
      return std::pair{a.offset_bytes, a.size_bytes} < std::pair{b.offset_bytes, b.size_bytes};
    });
    uint64_t end = 0;
    for (auto& tensor : out_.tensors) {
      if (tensor.offset_bytes < end)
        return bad(tensor, "overlaps the tensor before it");
      if (tensor.offset_bytes > data_bytes || tensor.size_bytes > data_bytes - tensor.offset_bytes)
        return fail(errc::short_read, "tensor " + shown(tensor.name) +
                                          " ends past the end of the file; download it again");
      end = tensor.offset_bytes + tensor.size_bytes;
      tensor.offset_bytes += begin;
    }
    return true;
  }

  std::span<const std::byte> file_; // its beginning
  uint64_t file_bytes_;
  const std::string& origin_;
  uint64_t at_ = 0;
  uint64_t tensor_count_ = 0;
  uint64_t metadata_count_ = 0;
  uint64_t alignment_ = default_alignment;
  gguf_header out_;
  caf::error error_;
};

} // namespace

caf::expected<gguf_header> parse_gguf(std::span<const std::byte> head, uint64_t file_bytes,
                                      const std::string& origin) {
  return gguf_parser(head, file_bytes, origin).run();
}

} // namespace troupe::storage

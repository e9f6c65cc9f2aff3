#include "cli/bench/random_weights.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "engine/errors.hpp"
#include "engine/model/weights.hpp"

namespace troupe::cli::bench {
namespace {

constexpr uint64_t page_bytes = 4096;

/// The bits of small numbers of either sign (2^-7 to 2^-5) in each type, and of one.
struct number_bits {
  uint64_t random_mask, always, one;
};

number_bits bits_of(dtype type) {
  switch (type) {
  case dtype::f32:
    return {0x807fffff807fffff, 0x3c8000003c800000, 0x3f8000003f800000};
  case dtype::f16:
    return {0x87ff87ff87ff87ff, 0x2400240024002400, 0x3c003c003c003c00};
  default:
    return {0x807f807f807f807f, 0x3c803c803c803c80, 0x3f803f803f803f80};
  }
}

/// splitmix64's finalizer (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"):
/// a number for every index, so that threads can fill any part.
uint64_t scrambled(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

void fill_words(std::byte* to, uint64_t from, uint64_t end, const number_bits& bits,
                uint64_t seed) {
  for (uint64_t i = from; i < end; ++i) {
    const uint64_t word = (scrambled(seed + i) & bits.random_mask) | bits.always;
    std::memcpy(to + i * 8, &word, 8);
  }
}

void drop_anonymous(const void* data, size_t size_bytes) {
  const auto from = (reinterpret_cast<uintptr_t>(data) + page_bytes - 1) / page_bytes * page_bytes;
  const auto end = (reinterpret_cast<uintptr_t>(data) + size_bytes) / page_bytes * page_bytes;
  if (from < end)
    madvise(reinterpret_cast<void*>(from), end - from, MADV_DONTNEED);
}

} // namespace

caf::expected<std::shared_ptr<random_weights>>
random_weights::create(const engine::model_config& config, dtype type, unsigned threads) {
  std::shared_ptr<random_weights> out{new random_weights{type, std::max(threads, 1u)}};
  for (auto& spec : engine::weight_plan(config)) {
    tensor one;
    one.elements = 1;
    for (const auto side : spec.shape)
      one.elements *= static_cast<uint64_t>(side);
    one.shape = std::move(spec.shape);
    one.offset = out->size_bytes_;
    one.keeps = config.tied_embeddings && spec.name == "model.embed_tokens.weight";
    const auto bytes = bytes_of(type, one.elements);
    out->largest_bytes_ = std::max(out->largest_bytes_, bytes);
    out->size_bytes_ += (bytes + page_bytes - 1) / page_bytes * page_bytes;
    out->tensors_.emplace(std::move(spec.name), std::move(one));
  }
  auto* data = mmap(nullptr, out->size_bytes_, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED)
    return caf::make_error(engine::errc::out_of_memory,
                           "reserving " + std::to_string(out->size_bytes_) +
                               " bytes of addresses for random weights: " + std::strerror(errno));
  out->data_ = static_cast<std::byte*>(data);
  return out;
}

random_weights::~random_weights() {
  if (data_ != nullptr)
    munmap(data_, size_bytes_);
}

void random_weights::fill(std::byte* to, const tensor& one) const {
  const auto bits = bits_of(type_);
  // Whole words: what follows a tensor up to the end of its page is its own.
  const uint64_t words = (bytes_of(type_, one.elements) + 7) / 8;
  if (one.shape.size() == 1) { // norms and biases
    for (uint64_t i = 0; i < words; ++i)
      std::memcpy(to + i * 8, &bits.one, 8);
    return;
  }
  std::vector<std::thread> helpers;
  for (unsigned i = 1; i < threads_; ++i)
    helpers.emplace_back(fill_words, to, words * i / threads_, words * (i + 1) / threads_, bits,
                         one.offset);
  fill_words(to, 0, words / threads_, bits, one.offset);
  for (auto& helper : helpers)
    helper.join();
}

std::optional<engine::weight_view> random_weights::find(std::string_view name) {
  const auto at = tensors_.find(name);
  if (at == tensors_.end())
    return std::nullopt;
  auto& one = at->second;
  std::byte* data = data_ + one.offset;
  if (!one.filled || !one.keeps)
    fill(data, one);
  one.filled = true;
  engine::weight_view out;
  out.type = type_;
  out.shape = one.shape;
  out.data = data;
  if (!one.keeps)
    out.drop = [data, size = bytes_of(type_, one.elements), all = one.shape[0]](int64_t rows) {
      if (rows == all)
        drop_anonymous(data, size);
    };
  return out;
}

} // namespace troupe::cli::bench

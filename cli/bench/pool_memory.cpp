#include "cli/bench/pool_memory.hpp"

#include <sys/mman.h>

#include <algorithm>

#include "storage/errors.hpp"
#include "storage/pool/chunk_pool.hpp"

namespace troupe::cli::bench {

namespace {

const uint64_t chunk = storage::chunk_pool_options{}.chunk_bytes;

} // namespace

caf::expected<std::unique_ptr<pool_memory>>
pool_memory::make(uint64_t size_bytes, std::shared_ptr<memory_pinner> pinner) {
  void* at = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED)
    return caf::make_error(storage::errc::no_memory, "measuring uploads takes " +
                                                         std::to_string(size_bytes) +
                                                         " bytes of host memory");
  auto* data = static_cast<std::byte*>(at);
  std::unique_ptr<pool_memory> out{new pool_memory{data, size_bytes, std::move(pinner)}};
  std::fill_n(data, size_bytes, std::byte{0x3c});
  for (uint64_t offset = 0; out->pinner_ && offset < size_bytes; offset += chunk) {
    if (auto why = out->pinner_->pin(out->chunk_at(offset)))
      return why;
    out->pinned_bytes_ = std::min(offset + chunk, size_bytes);
  }
  return out;
}

pool_memory::~pool_memory() {
  for (uint64_t offset = 0; offset < pinned_bytes_; offset += chunk)
    pinner_->unpin(chunk_at(offset));
  ::munmap(data_, size_bytes_);
}

std::span<std::byte> pool_memory::chunk_at(uint64_t offset) const {
  return {data_ + offset, std::min(chunk, size_bytes_ - offset)};
}

pinned_run pool_memory::pinned(const std::byte* at, uint64_t size_bytes) const {
  if (!pinner_)
    return {nullptr, size_bytes};
  const auto left = chunk - static_cast<uint64_t>(at - data_) % chunk;
  return {at, std::min(size_bytes, left)};
}

} // namespace troupe::cli::bench

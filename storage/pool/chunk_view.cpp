#include "storage/pool/chunk_view.hpp"

#include <sys/mman.h>

#include <cassert>
#include <cerrno>
#include <system_error>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

caf::error failure(const char* what) {
  return caf::make_error(errc::no_memory, std::string{"mapping weights from the host pool: "} +
                                              what + ": " + std::generic_category().message(errno));
}

} // namespace

chunk_view::chunk_view(std::shared_ptr<chunk_pool> pool, uint64_t size_bytes)
    : pool_{std::move(pool)}, size_bytes_{size_bytes},
      chunks_((size_bytes + pool_->chunk_bytes() - 1) / pool_->chunk_bytes()) {}

caf::expected<std::unique_ptr<chunk_view>> chunk_view::make(std::shared_ptr<chunk_pool> pool,
                                                            uint64_t size_bytes) {
  std::unique_ptr<chunk_view> out{new chunk_view{std::move(pool), size_bytes}};
  if (size_bytes == 0)
    return out;
  void* at =
      ::mmap(nullptr, size_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED)
    return failure("no addresses");
  out->data_ = static_cast<std::byte*>(at);
  return out;
}

chunk_view::~chunk_view() {
  if (data_ != nullptr)
    ::munmap(data_, size_bytes_);
}

caf::error chunk_view::place(uint64_t offset, chunk_lease chunk) {
  const auto index = offset / pool_->chunk_bytes();
  const auto length = chunk.bytes().size();
  assert(offset % pool_->chunk_bytes() == 0 && index < chunks_.size() && !chunks_[index]);
  // Neighbours in the pool become one mapping, so that a large model stays far below the kernel's
  // limit on their number.
  void* at = ::mmap(data_ + offset, length, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_POPULATE,
                    pool_->region().fd(), static_cast<off_t>(pool_->region_offset(chunk.slot())));
  if (at == MAP_FAILED)
    return failure("a chunk");
  chunks_[index] = std::move(chunk);
  return {};
}

void chunk_view::drop(uint64_t offset) {
  auto& chunk = chunks_[offset / pool_->chunk_bytes()];
  if (!chunk)
    return;
  // Whoever reads here by mistake must not see what the pool puts there next.
  ::mmap(data_ + offset, chunk.bytes().size(), PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  chunk.release();
}

} // namespace troupe::storage

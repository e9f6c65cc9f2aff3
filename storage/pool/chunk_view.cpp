#include "storage/pool/chunk_view.hpp"

#include <sys/mman.h>

#include <algorithm>
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

chunk_view::chunk_view(std::shared_ptr<chunk_pool> pool, shelf kept, file_mapping mapping)
    : pool_{std::move(pool)}, kept_{std::move(kept)}, mapping_{std::move(mapping)},
      chunks_(mapping_.slots().size()) {}

caf::expected<std::unique_ptr<chunk_view>> chunk_view::make(std::shared_ptr<chunk_pool> pool,
                                                            uint64_t size_bytes, shelf kept) {
  const auto made = [&](file_mapping mapping) {
    return std::unique_ptr<chunk_view>{
        new chunk_view{std::move(pool), std::move(kept), std::move(mapping)}};
  };
  if (size_bytes == 0)
    return made({nullptr, 0, 0});
  if (kept.of)
    if (auto before = kept.of->take(kept.file, size_bytes))
      return made(std::move(*before));
  void* at =
      ::mmap(nullptr, size_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED)
    return failure("no addresses");
  const auto chunk = pool->chunk_bytes();
  return made({static_cast<std::byte*>(at), size_bytes, (size_bytes + chunk - 1) / chunk});
}

chunk_view::~chunk_view() {
  if (kept_.of)
    kept_.of->keep(kept_.file, std::move(mapping_));
}

caf::error chunk_view::place(uint64_t offset, chunk_lease chunk) {
  const auto index = offset / pool_->chunk_bytes();
  const auto length = chunk.bytes().size();
  assert(offset % pool_->chunk_bytes() == 0 && index < chunks_.size() && !chunks_[index]);
  auto& mapped = mapping_.slots()[index];
  if (mapped == chunk.slot()) { // as it was before
    chunks_[index] = std::move(chunk);
    return {};
  }
  // Neighbours in the pool become one mapping, so that a large model stays far below the kernel's
  // limit on their number.
  // Entering pages into page tables takes as long as copying them, and devices do not need it.
  const int populate = chunk.is_pinned() ? 0 : MAP_POPULATE;
  void* at = ::mmap(mapping_.data() + offset, length, PROT_READ, MAP_SHARED | MAP_FIXED | populate,
                    pool_->region().fd(), static_cast<off_t>(pool_->region_offset(chunk.slot())));
  if (at == MAP_FAILED)
    return failure("a chunk");
  mapped = chunk.slot();
  chunks_[index] = std::move(chunk);
  return {};
}

void chunk_view::drop(uint64_t offset) {
  const auto index = offset / pool_->chunk_bytes();
  auto& chunk = chunks_[index];
  if (!chunk)
    return;
  if (!kept_.of) {
    // Whoever reads here by mistake must not see what the pool puts there next.
    ::mmap(mapping_.data() + offset, chunk.bytes().size(), PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    mapping_.slots()[index] = file_mapping::no_slot;
  }
  chunk.release();
}

pinned_run chunk_view::pinned(uint64_t offset, uint64_t size_bytes) const {
  const uint64_t chunk = pool_->chunk_bytes();
  const auto index = offset / chunk;
  const auto is_pinned = [this](uint64_t i) { return chunks_[i] && chunks_[i].is_pinned(); };
  const auto end = offset + size_bytes;
  auto until = (index + 1) * chunk;
  if (is_pinned(index)) // a device takes no more at once than was pinned at once
    return {chunks_[index].bytes().data() + offset % chunk, std::min(end, until) - offset};
  while (until < end && !is_pinned(until / chunk))
    until += chunk;
  return {nullptr, std::min(end, until) - offset};
}

} // namespace troupe::storage

#include "storage/pipeline/weight_tiers.hpp"

#include <algorithm>
#include <utility>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

/// Far below the number of mappings that the kernel allows a process, 65,530.
constexpr size_t kept_chunks_max = 8192;

} // namespace

weight_tiers::weight_tiers(std::shared_ptr<chunk_pool> pool, std::shared_ptr<disk_reader> reader,
                           const weight_tiers_options& options)
    : pool_{std::move(pool)}, mappings_{std::make_shared<kept_mappings>(
                                  std::min<size_t>(pool_->chunk_count(), kept_chunks_max))},
      reader_{std::move(reader)}, sums_{options.checksums, pool_->chunk_bytes()},
      map_cached_files_{options.map_cached_files}, pipeline_{std::make_unique<load_pipeline>(
                                                       pool_, options.pipeline)} {}

caf::expected<std::shared_ptr<weight_tiers>> weight_tiers::open(weight_tiers_options options) {
  auto reader = make_disk_reader(options.disk);
  if (!reader)
    return reader.error();
  auto pool = chunk_pool::open(options.pool);
  if (!pool)
    return pool.error();
  return std::shared_ptr<weight_tiers>{
      new weight_tiers{std::move(*pool), std::move(*reader), options}};
}

std::optional<planned_range> locate(const checkpoint& files, const tensor_view& tensor) {
  const auto all = files.files();
  for (uint32_t i = 0; i < all.size(); ++i) {
    const auto whole = all[i].bytes();
    if (tensor.bytes.data() >= whole.data() &&
        tensor.bytes.data() + tensor.bytes.size() <= whole.data() + whole.size())
      return planned_range{i, static_cast<uint64_t>(tensor.bytes.data() - whole.data()),
                           tensor.bytes.size()};
  }
  return std::nullopt;
}

caf::expected<std::vector<std::shared_ptr<file_sums>>>
weight_tiers::open_sums(const checkpoint& files) const {
  std::vector<std::shared_ptr<const disk_file>> opened;
  for (const auto& file : files.files()) {
    auto one = disk_file::of(file.fd(), file.path(), false);
    if (!one)
      return one.error();
    opened.push_back(std::move(*one));
  }
  return sums_.open(opened);
}

} // namespace troupe::storage

#include "storage/pipeline/tier_survey.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace troupe::storage {

namespace {

struct chunk_list {
  std::vector<std::shared_ptr<const disk_file>> files;
  std::set<std::pair<uint32_t, uint64_t>> chunks; ///< file, offset
  uint64_t chunk_bytes = 0;

  uint64_t length(uint32_t file, uint64_t offset) const {
    return std::min(chunk_bytes, files[file]->size_bytes() - offset);
  }
  bool is_cached(uint32_t file, uint64_t offset) const {
    return files[file]->is_cached(offset, length(file, offset));
  }
};

/// The chunks of those tensors; none if a file cannot be looked at.
chunk_list chunks_of(const checkpoint& files, const std::vector<std::string>& names,
                     uint64_t chunk_bytes) {
  chunk_list out;
  out.chunk_bytes = chunk_bytes;
  for (const auto& file : files.files()) {
    auto one = disk_file::of(file.fd(), file.path(), false);
    if (!one)
      return {};
    out.files.push_back(std::move(*one));
  }
  for (const auto& name : names) {
    const auto tensor = files.find(name);
    const auto range = tensor ? locate(files, *tensor) : std::nullopt;
    if (!range)
      continue;
    for (auto at = range->offset / chunk_bytes * chunk_bytes; at < range->offset + range->length;
         at += chunk_bytes)
      out.chunks.emplace(range->file, at);
  }
  return out;
}

tier_survey mapped(const chunk_list& list) {
  tier_survey out;
  for (const auto& [file, offset] : list.chunks)
    (list.is_cached(file, offset) ? out.cached : out.paged) += list.length(file, offset);
  return out;
}

} // namespace

tier_survey survey(weight_tiers& tiers, const checkpoint& files,
                   const std::vector<std::string>& names, uint64_t coming_bytes) {
  const auto list = chunks_of(files, names, tiers.chunk_bytes());
  // Ends at the first chunk that is not cached: the kernel looks at every page of the others.
  const bool cached =
      tiers.maps_cached_files() && std::ranges::all_of(list.chunks, [&](const auto& one) {
        return list.is_cached(one.first, one.second);
      });
  // What is set aside now does not count: it may be set aside for these very files.
  if (cached || !tiers.pool().could_reserve(static_cast<uint32_t>(list.chunks.size())))
    return mapped(list);
  std::vector<checksum> of_file;
  for (const auto& file : list.files)
    of_file.push_back(make_disk_origin(tiers.reader(), file)->key());
  std::vector<chunk_key> keys;
  for (const auto& [file, offset] : list.chunks)
    keys.push_back({of_file[file], offset});
  const auto coming = (coming_bytes + tiers.chunk_bytes() - 1) / tiers.chunk_bytes();
  const auto held =
      tiers.pool().would_hold(keys, coming, tiers.pipeline().reload_seconds(tiers.chunk_bytes()),
                              std::chrono::steady_clock::now());
  tier_survey out;
  auto is_held = held.begin();
  for (const auto& [file, offset] : list.chunks)
    (*is_held++                     ? out.pool
     : list.is_cached(file, offset) ? out.cached
                                    : out.disk) += list.length(file, offset);
  return out;
}

tier_survey survey_mapped(const checkpoint& files) {
  constexpr uint64_t piece = 16u << 20;
  return mapped(chunks_of(files, files.names(), piece));
}

} // namespace troupe::storage

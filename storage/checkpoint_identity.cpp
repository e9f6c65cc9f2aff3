#include "storage/checkpoint_identity.hpp"

#include "storage/disk/disk_file.hpp"
#include "storage/gguf_files.hpp"

namespace troupe::storage {

namespace {

void append(std::string& to, const file_identity& x) {
  to += std::to_string(x.device) + ":" + std::to_string(x.inode) + ":" +
        std::to_string(x.size_bytes) + ":" + std::to_string(x.modified_ns) + " ";
}

} // namespace

std::string identity_of(const checkpoint& files, const std::filesystem::path& path,
                        const arriving_model* arriving) {
  std::string out;
  for (const auto& file : files.files()) {
    if (const auto coming = arriving != nullptr ? arriving->find(file.path()) : nullptr) {
      append(out, coming->identity());
      continue;
    }
    const auto here = disk_file::of(file.fd(), file.path(), false);
    if (!here)
      return {};
    append(out, (*here)->identity());
  }
  if (is_gguf(path))
    return out;
  const auto config = disk_file::open(path / "config.json", false);
  if (!config)
    return {};
  append(out, (*config)->identity());
  return out;
}

} // namespace troupe::storage

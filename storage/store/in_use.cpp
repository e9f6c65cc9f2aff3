#include "storage/store/in_use.hpp"

#include <system_error>

#include "storage/model_dir.hpp"
#include "storage/store/file_lock.hpp"

namespace troupe::storage {

namespace fs = std::filesystem;

fs::path use_lock_of(const fs::path& model_dir) {
  std::error_code failed;
  // Of a GGUF file: a hub's cache has links to files that lie elsewhere.
  const auto dir = fs::weakly_canonical(model_root(model_dir), failed);
  if (dir.parent_path().filename() == "snapshots") {
    const auto repository = dir.parent_path().parent_path();
    return repository.parent_path() / ".locks" / repository.filename() / "troupe-in-use.lock";
  }
  if (fs::is_directory(dir / ".troupe", failed))
    return dir / ".troupe" / "in-use.lock";
  return {};
}

std::shared_ptr<const void> hold_model(const fs::path& model_dir) {
  const auto file = use_lock_of(model_dir);
  if (file.empty())
    return nullptr;
  auto lock = file_lock::try_lock(file, file_lock::mode::shared);
  if (!lock || !*lock)
    return nullptr;
  return std::make_shared<const file_lock>(std::move(**lock));
}

} // namespace troupe::storage

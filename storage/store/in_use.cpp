#include "storage/store/in_use.hpp"

#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "storage/gguf_files.hpp"
#include "storage/integrity/checksum.hpp"
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

fs::path part_lock(const fs::path& use_lock, const fs::path& gguf) {
  // A digest, as names of files may be as long as those of locks.
  const auto text = gguf.generic_string();
  const auto part =
      text.empty() ? std::string{"all"} : to_string(checksum_of(std::as_bytes(std::span{text})));
  return use_lock.parent_path() / (use_lock.stem().string() + "-" + part + ".lock");
}

std::shared_ptr<const void> hold_model(const fs::path& model_dir) {
  const auto file = use_lock_of(model_dir);
  if (file.empty())
    return nullptr;
  const auto gguf = is_gguf(model_dir)
                        ? gguf_parts(model_dir).front().lexically_relative(model_root(model_dir))
                        : fs::path{};
  std::vector<file_lock> out;
  for (const auto& one : {file, part_lock(file, gguf)}) {
    auto lock = file_lock::try_lock(one, file_lock::mode::shared);
    if (!lock || !*lock)
      return nullptr;
    out.push_back(std::move(**lock));
  }
  return std::make_shared<const std::vector<file_lock>>(std::move(out));
}

} // namespace troupe::storage

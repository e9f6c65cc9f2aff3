#include "storage/peers/stand_in.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "storage/errors.hpp"
#include "storage/gguf_files.hpp"
#include "storage/peers/peer_socket.hpp"
#include "storage/pipeline/source_origin.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

/// No head of a file is larger: safetensors and GGUF readers allow less.
constexpr uint64_t head_bytes_max = 512u << 20;

/// Says which model this is, whatever it is called: equal ones have equal files.
std::string digest_of(const std::vector<peer_file>& files) {
  std::string text;
  for (const auto& x : files)
    text += x.path + "\n" + x.version + "\n" + std::to_string(x.size_bytes) + "\n";
  return to_string(checksum_of(std::as_bytes(std::span{text})));
}

caf::error failure(const fs::path& file, int code) {
  return caf::make_error(code == ENOSPC ? errc::no_space : errc::unreadable,
                         "writing " + file.string() + ": " + std::generic_category().message(code));
}

caf::error write_file(source& from, const peer_file& file, const fs::path& to) {
  const auto wanted = file.is_weights ? file.head_bytes : file.size_bytes;
  if (wanted > head_bytes_max)
    return caf::make_error(errc::malformed, from.name() + "/" + file.path + ": its head has " +
                                                std::to_string(wanted) + " bytes");
  std::error_code ignored;
  fs::create_directories(to.parent_path(), ignored);
  const descriptor fd{::open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
  if (!fd)
    return failure(to, errno);
  uint64_t at = 0;
  const auto take = [&](std::span<const std::byte> piece) -> caf::error {
    while (!piece.empty()) {
      const auto written = ::pwrite(fd.get(), piece.data(), piece.size(), static_cast<off_t>(at));
      if (written < 0 && errno == EINTR)
        continue;
      if (written < 0)
        return failure(to, errno);
      at += static_cast<uint64_t>(written);
      piece = piece.subspan(static_cast<size_t>(written));
    }
    return {};
  };
  const source_file about{
      .path = file.path, .size_bytes = file.size_bytes, .version = file.version, .sha256 = {}};
  if (auto why = from.stream(about, {0, wanted}, take))
    return why;
  // A hole takes no room on the disk.
  const bool done =
      ::ftruncate(fd.get(), static_cast<off_t>(file.size_bytes)) == 0 && ::fsync(fd.get()) == 0;
  return done ? caf::error{} : failure(to, errno);
}

/// What is known of a file's chunks, as this node cuts them.
std::shared_ptr<file_sums> sums_of(const peer_file& file, const fs::path& at,
                                   uint32_t chunk_bytes) {
  return file_sums::received(at / file.path, file.size_bytes, chunk_bytes,
                             file.chunk_bytes == chunk_bytes ? file.sums : std::vector<checksum>{});
}

/// The weight files in the order in which a checkpoint has them.
std::vector<peer_file> weights_of(const std::vector<peer_file>& files, const fs::path& at) {
  std::vector<peer_file> out;
  const auto opened = checkpoint::open(at);
  if (!opened)
    return out;
  const auto root = is_gguf(at) ? at.parent_path() : at;
  for (const auto& file : (*opened)->files()) {
    const auto name = file.path().lexically_relative(root).generic_string();
    const auto known = std::ranges::find(files, name, &peer_file::path);
    out.push_back(known == files.end() ? peer_file{} : *known);
  }
  return out;
}

} // namespace

caf::expected<fs::path> make_stand_in(peer_links& links, const host_port& from,
                                      const std::string& model, const std::vector<peer_file>& files,
                                      const fs::path& root) {
  const auto dir = root / digest_of(files);
  const auto last = fs::path{model}.filename();
  const auto out = is_gguf(last) ? dir / last : dir;
  std::error_code failed;
  if (fs::is_directory(dir, failed))
    return out;
  const auto source = make_peer_source(links, from, model);
  const auto fresh = fs::path{dir}.concat("." + std::to_string(::getpid()));
  fs::remove_all(fresh, failed);
  fs::create_directories(fresh, failed);
  for (const auto& file : files)
    if (auto why = write_file(*source, file, fresh / file.path)) {
      fs::remove_all(fresh, failed);
      return why;
    }
  fs::rename(fresh, dir, failed);
  if (failed) // another worker of this machine was faster
    fs::remove_all(fresh, failed);
  if (!fs::is_directory(dir, failed))
    return caf::make_error(errc::unreadable, dir.string() + ": cannot be made");
  return out;
}

std::shared_ptr<const weight_origins> origins_of(peer_links& links, const std::string& model,
                                                 const std::vector<peer_file>& files,
                                                 const peer_group& group, const fs::path& at,
                                                 uint32_t chunk_bytes,
                                                 std::shared_ptr<std::atomic<uint64_t>> received) {
  auto out = std::make_shared<weight_origins>();
  out->alone = true;
  out->of = [&links, model, group, at, chunk_bytes, received,
             weights = weights_of(files, at)](uint32_t index, planned_file) {
    const auto& file = weights.at(index);
    const auto origin = [&](const host_port& where, uint32_t patience) {
      return make_peer_origin(links, {.at = where,
                                      .model = model,
                                      .file = file,
                                      .patience_ms = patience,
                                      .received = received});
    };
    std::vector<std::shared_ptr<chunk_origin>> holders;
    for (const auto& one : group.holders)
      holders.push_back(origin(one, 0));
    std::vector<std::shared_ptr<chunk_origin>> members{make_joint_origin(std::move(holders))};
    for (const auto& one : group.together)
      members.push_back(origin(one, group.patience_ms));
    if (group.route)
      members.front() =
          make_routed_origin(members, [route = group.route, index, chunk_bytes](uint64_t offset) {
            return route(offset / chunk_bytes + index);
          });
    return planned_file{members.front(), sums_of(file, at, chunk_bytes)};
  };
  return out;
}

std::shared_ptr<const weight_origins>
origins_beside(peer_links& links, const std::string& model, const std::vector<peer_file>& files,
               const std::vector<host_port>& holders, const fs::path& at, uint32_t chunk_bytes,
               std::shared_ptr<std::atomic<uint64_t>> received) {
  auto out = std::make_shared<weight_origins>();
  out->of = [&links, model, holders, chunk_bytes, received,
             weights = weights_of(files, at)](uint32_t index, planned_file own) {
    const auto& file = weights.at(index);
    if (file.size_bytes != own.origin->size_bytes())
      return own;
    for (uint64_t at = 0; at < file.size_bytes; at += chunk_bytes)
      if (!own.sums->expected(at))
        return own; // nobody could say that theirs are the same bytes
    std::vector<std::shared_ptr<chunk_origin>> all{own.origin};
    for (const auto& one : holders)
      all.push_back(make_peer_origin(
          links, {.at = one,
                  .model = model,
                  .file = file,
                  .expected = [sums = own.sums](uint64_t offset) { return sums->expected(offset); },
                  .received = received}));
    own.origin = make_joint_origin(std::move(all));
    return own;
  };
  return out;
}

} // namespace troupe::storage

#include "storage/integrity/ledger.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include "schemas/chunk_sums.capnp.h"
#include "schemas/flat_message.hpp"
#include "storage/errors.hpp"

namespace troupe::storage {

namespace fs = std::filesystem;

namespace {

/// Records of one terabyte in chunks of 64 KiB would have this; more is no sidecar of ours.
constexpr uint64_t sidecar_bytes_max = uint64_t{256} << 20;

std::string at(uint64_t offset) { return "at byte " + std::to_string(offset); }

std::string read_whole(const fs::path& file) {
  std::error_code failed;
  const auto size = fs::file_size(file, failed);
  if (failed || size > sidecar_bytes_max)
    return {};
  std::ifstream in{file, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// What a sidecar says, without the checksum that ends it; empty if it is not whole.
std::string_view checked(std::string_view bytes) {
  checksum recorded;
  if (bytes.size() <= sizeof recorded)
    return {};
  const auto message = bytes.substr(0, bytes.size() - sizeof recorded);
  std::memcpy(&recorded, bytes.data() + message.size(), sizeof recorded);
  return recorded == checksum_of(std::as_bytes(std::span{message})) ? message : std::string_view{};
}

caf::error write_whole(const fs::path& file, const std::string& bytes) {
  std::error_code failed;
  fs::create_directories(file.parent_path(), failed);
  // A name of our own, so that two processes do not write into one file.
  const auto fresh = fs::path{file}.concat("." + std::to_string(::getpid()));
  {
    std::ofstream out{fresh, std::ios::binary | std::ios::trunc};
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    out.flush();
    if (!out) {
      fs::remove(fresh, failed);
      return caf::make_error(errc::no_space, "recording checksums in " + file.string() +
                                                 ": the file cannot be written");
    }
  }
  fs::rename(fresh, file, failed);
  if (failed)
    return caf::make_error(errc::unreadable,
                           "recording checksums in " + file.string() + ": " + failed.message());
  return {};
}

} // namespace

std::shared_ptr<file_sums> file_sums::received(fs::path name, uint64_t size_bytes,
                                               uint32_t chunk_bytes, std::vector<checksum> sums) {
  const std::shared_ptr<file_sums> out{new file_sums};
  out->path_ = std::move(name);
  out->identity_.size_bytes = size_bytes;
  out->chunk_bytes_ = chunk_bytes;
  out->sums_ = std::move(sums);
  out->sums_.resize((size_bytes + chunk_bytes - 1) / chunk_bytes);
  return out;
}

std::optional<checksum> file_sums::expected(uint64_t offset) const {
  const std::lock_guard guard{mutex_};
  const auto& sum = sums_.at(offset / chunk_bytes_);
  return sum == checksum{} ? std::nullopt : std::optional{sum};
}

caf::error file_sums::check(uint64_t offset, const checksum& found) {
  const std::lock_guard guard{mutex_};
  auto& sum = sums_.at(offset / chunk_bytes_);
  if (sum == found)
    return {};
  if (sum == checksum{}) {
    sum = found;
    learned_ = true;
    return {};
  }
  if (replaced_)
    return caf::make_error(errc::corrupted,
                           path_.string() + ": " + at(offset) +
                               " its content is not that of the shard which belongs to the others "
                               "of this model; put the right one back, or if all is as it should "
                               "be, remove " +
                               sidecar_.string());
  bad_at_ = offset;
  bad_sum_ = found;
  learned_ = true;
  return caf::make_error(errc::corrupted,
                         damage() + "; the file is damaged and will not be used, replace it");
}

std::string file_sums::damage() const {
  return path_.string() + ": " + at(*bad_at_) + " the checksum is " + to_string(bad_sum_) +
         " instead of " + to_string(sums_.at(*bad_at_ / chunk_bytes_));
}

caf::error file_sums::trusted() const {
  const std::lock_guard guard{mutex_};
  if (!bad_at_)
    return {};
  return caf::make_error(errc::corrupted,
                         damage() +
                             ", as an earlier load found; the file is damaged, replace it, "
                             "or to try it again remove " +
                             sidecar_.string());
}

caf::error file_sums::mended() {
  {
    const std::lock_guard guard{mutex_};
    if (!bad_at_)
      return {};
    bad_at_.reset();
    learned_ = true;
  }
  return save(true);
}

caf::error file_sums::save(bool went_through) {
  const std::lock_guard guard{mutex_};
  if (went_through ? !learned_ && !replaced_ : !learned_ || !bad_at_)
    return {};
  learned_ = false;
  replaced_ = false;
  if (sidecar_.empty())
    return {};
  capnp::MallocMessageBuilder message;
  auto to = message.initRoot<schemas::ChunkSums>();
  to.setPath(path_.string());
  to.setDevice(identity_.device);
  to.setInode(identity_.inode);
  to.setSizeBytes(identity_.size_bytes);
  to.setModifiedNs(identity_.modified_ns);
  to.setChunkBytes(chunk_bytes_);
  auto sums = to.initSums(static_cast<unsigned>(2 * sums_.size()));
  for (unsigned i = 0; i < sums_.size(); ++i) {
    sums.set(2 * i, sums_[i].low);
    sums.set(2 * i + 1, sums_[i].high);
  }
  to.setBadAt(bad_at_ ? static_cast<int64_t>(*bad_at_) : -1);
  to.setBadSumLow(bad_sum_.low);
  to.setBadSumHigh(bad_sum_.high);
  auto bytes = schemas::to_bytes(message);
  const auto whole = checksum_of(std::as_bytes(std::span{bytes}));
  bytes.append(reinterpret_cast<const char*>(&whole), sizeof whole);
  return write_whole(sidecar_, bytes);
}

fs::path ledger::sidecar_of(const fs::path& file) const {
  if (directory_.empty())
    return {};
  std::error_code failed;
  auto name = fs::weakly_canonical(file, failed);
  if (failed)
    name = file;
  const auto text = name.string();
  return directory_ / (to_string(checksum_of(std::as_bytes(std::span{text}))) + ".sums");
}

std::shared_ptr<file_sums> ledger::load(const disk_file& file) const {
  const std::shared_ptr<file_sums> out{new file_sums};
  out->sidecar_ = sidecar_of(file.path());
  out->path_ = file.path();
  const auto bytes = out->sidecar_.empty() ? std::string{} : read_whole(out->sidecar_);
  const auto message = checked(bytes);
  const auto take = [&](schemas::ChunkSums::Reader from) -> caf::error {
    const auto sums = from.getSums();
    const auto chunk_bytes = from.getChunkBytes();
    if (chunk_bytes == 0 ||
        sums.size() != 2 * ((from.getSizeBytes() + chunk_bytes - 1) / chunk_bytes))
      return caf::make_error(errc::malformed, "not as many checksums as chunks");
    out->identity_ = {from.getDevice(), from.getInode(), from.getSizeBytes(), from.getModifiedNs()};
    out->chunk_bytes_ = chunk_bytes;
    for (unsigned i = 0; i < sums.size(); i += 2)
      out->sums_.push_back({sums[i], sums[i + 1]});
    if (from.getBadAt() >= static_cast<int64_t>(from.getSizeBytes()))
      return caf::make_error(errc::malformed, "damage beyond the end of the file");
    if (from.getBadAt() >= 0)
      out->bad_at_ = static_cast<uint64_t>(from.getBadAt());
    out->bad_sum_ = {from.getBadSumLow(), from.getBadSumHigh()};
    return {};
  };
  if (message.empty() || schemas::from_bytes<schemas::ChunkSums>(message, "a sidecar", take) ||
      out->chunk_bytes_ != chunk_bytes_)
    out->chunk_bytes_ = 0; // no record
  return out;
}

std::shared_ptr<file_sums> ledger::recorded(const disk_file& file) const {
  auto out = load(file);
  return out->chunk_bytes_ != 0 && out->identity_ == file.identity() ? out : nullptr;
}

std::shared_ptr<file_sums> ledger::begin(const fs::path& place, uint64_t size_bytes) const {
  const std::shared_ptr<file_sums> out{new file_sums};
  out->path_ = place;
  out->identity_.size_bytes = size_bytes;
  out->chunk_bytes_ = chunk_bytes_;
  out->sums_.assign((size_bytes + chunk_bytes_ - 1) / chunk_bytes_, {});
  return out;
}

caf::error ledger::settle(file_sums& sums, const disk_file& file) const {
  {
    const std::lock_guard guard{sums.mutex_};
    if (file.size_bytes() != sums.identity_.size_bytes)
      return caf::make_error(errc::changed, file.path().string() + ": has another length by now");
    sums.identity_ = file.identity();
    sums.path_ = file.path();
    sums.sidecar_ = sidecar_of(file.path());
    sums.learned_ = true;
  }
  return sums.save(true);
}

caf::expected<std::vector<std::shared_ptr<file_sums>>>
ledger::open(const std::vector<std::shared_ptr<const disk_file>>& files) const {
  std::vector<std::shared_ptr<file_sums>> out;
  bool same = false;
  for (const auto& file : files) {
    out.push_back(load(*file));
    same = same || (out.back()->chunk_bytes_ != 0 && out.back()->identity_ == file->identity());
  }
  for (size_t i = 0; i < files.size(); ++i) {
    auto& sums = *out[i];
    const auto& now = files[i]->identity();
    const bool known = sums.chunk_bytes_ != 0;
    if (known && sums.identity_ == now) {
      if (auto why = sums.trusted())
        return why;
      continue;
    }
    if (known && same && sums.identity_.size_bytes != now.size_bytes)
      return caf::make_error(errc::corrupted,
                             files[i]->path().string() + ": has " + std::to_string(now.size_bytes) +
                                 " bytes, but the shard that belongs to the others of this model "
                                 "has " +
                                 std::to_string(sums.identity_.size_bytes) +
                                 "; put the right one back, or if all is as it should be, remove " +
                                 sums.sidecar_.string());
    sums.replaced_ = known && same;
    sums.identity_ = now;
    sums.bad_at_.reset();
    sums.chunk_bytes_ = chunk_bytes_;
    if (!sums.replaced_)
      sums.sums_.assign((now.size_bytes + chunk_bytes_ - 1) / chunk_bytes_, {});
  }
  return out;
}

} // namespace troupe::storage

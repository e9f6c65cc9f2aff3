#include "storage/peers/shared_models.hpp"

#include <algorithm>
#include <utility>

#include <unistd.h>

#include "storage/errors.hpp"
#include "storage/gguf_files.hpp"
#include "storage/sources/file_source.hpp"
#include "storage/sources/hub_source.hpp"
#include "storage/store/manifest.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

/// Larger files that hold no tensors of the model are none that it needs.
constexpr uint64_t small_bytes_max = 64u << 20;

std::string digest(const std::string& text) {
  return to_string(checksum_of(std::as_bytes(std::span{text})));
}

/// Equal bytes have equal ones, wherever they are.
std::string version_by_sums(const peer_file& x) {
  if (std::ranges::find(x.sums, checksum{}) != x.sums.end())
    return {};
  return "sums:" + std::to_string(x.size_bytes) + "-" + std::to_string(x.chunk_bytes) + "-" +
         to_string(checksum_of(std::as_bytes(std::span{x.sums})));
}

caf::expected<std::vector<std::byte>> read_part(const disk_file& file, uint64_t offset,
                                                uint64_t length) {
  std::vector<std::byte> out(length);
  for (size_t done = 0; done < out.size();) {
    const auto got = ::pread(file.buffered_fd(), out.data() + done, out.size() - done,
                             static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return caf::make_error(got == 0 ? errc::short_read : errc::unreadable,
                             file.path().string() + ": cannot be read at byte " +
                                 std::to_string(offset + done));
    done += static_cast<size_t>(got);
  }
  return out;
}

/// What stands before the first tensor of each file.
std::vector<uint64_t> heads_of(const checkpoint& files) {
  std::vector<uint64_t> out;
  for (const auto& file : files.files())
    out.push_back(file.size_bytes());
  for (const auto& name : files.names())
    if (const auto range = locate(files, *files.find(name)))
      out[range->file] = std::min(out[range->file], range->offset);
  return out;
}

fs::path root_of(const fs::path& model) { return is_gguf(model) ? model.parent_path() : model; }

/// Whether the checksums of all chunks are known.
bool is_complete(const file_sums& sums, uint64_t size_bytes, uint32_t chunk_bytes) {
  for (uint64_t at = 0; at < size_bytes; at += chunk_bytes)
    if (!sums.expected(at))
      return false;
  return true;
}

/// Whether they mean the same bytes: each may know of a version that the other does not.
bool is_same(const peer_file& file, const peer_request& request) {
  const auto among = [&](const std::string& version) {
    return version == request.version || (!version.empty() && version == request.other_version);
  };
  return among(file.version) || (!file.other_version.empty() && among(file.other_version));
}

/// A file as its source knew it when it was fetched, as the layouts of the store and of the hub's
/// cache keep that; nothing in it if it was not, or not as it is now.
source_file fetched_as(const fs::path& root, const std::string& name) {
  std::error_code failed;
  const auto blob = fs::canonical(root / name, failed);
  if (!failed && blob.parent_path().filename() == "blobs" &&
      is_hex_digest(blob.filename().native(), 64))
    return {.path = {}, .version = {}, .sha256 = blob.filename()};
  auto known = read_manifest(root);
  const auto at = known.files.find(name);
  if (at == known.files.end())
    return {};
  // Without a sha256 whoever gets it could not tell that it was written to.
  if (!known.is_as_published(root, name))
    at->second.addressed.clear();
  return std::move(at->second);
}

caf::error unknown(const std::string& model) {
  return caf::make_error(errc::not_found, "it does not have " + model);
}

} // namespace

shared_models::shared_models(std::shared_ptr<weight_tiers> tiers, fs::path checksums,
                             std::string node)
    : tiers_{std::move(tiers)}, sums_{std::move(checksums), tiers_
                                                                ? tiers_->chunk_bytes()
                                                                : chunk_pool_options{}.chunk_bytes},
      node_{std::move(node)}, chunk_bytes_{tiers_ ? tiers_->chunk_bytes()
                                                  : chunk_pool_options{}.chunk_bytes} {
  if (tiers_)
    tiers_->pipeline().on_landed([this] { tell(); });
}

shared_models::~shared_models() {
  if (tiers_)
    tiers_->pipeline().on_landed({});
}

void shared_models::offer(const std::string& model, const fs::path& path) {
  std::shared_ptr<const file_map> before; // arrivals may end with it, and call back
  {
    const std::lock_guard guard{mutex_};
    auto& x = models_[model];
    x.path = path;
    x.is_offered = true;
    x.is_received = false;
    before.swap(x.files);
  }
  tell();
}

void shared_models::offer_coming(const std::string& model, const std::vector<coming_file>& files) {
  auto made = std::make_shared<file_map>();
  for (const auto& [file, bytes] : files) {
    file_entry x{.about = {}, .key = {}, .disk = {}, .sums = {}};
    x.about.path = file.path;
    x.about.size_bytes = file.size_bytes;
    x.about.version = common_version(file);
    x.about.addressed = file.addressed;
    x.about.is_weights = true;
    x.key = key_of(x.about);
    x.coming = bytes;
    made->emplace(file.path, std::move(x));
  }
  std::shared_ptr<const file_map> before;
  {
    const std::lock_guard guard{mutex_};
    auto& x = models_[model];
    x.path.clear();
    x.is_offered = x.is_received = true;
    before = std::exchange(x.files, std::move(made));
  }
  tell();
  for (const auto& one : files)
    one.bytes->when_checked([me = weak_from_this(), model](const caf::error& why) {
      if (const auto self = why ? me.lock() : nullptr)
        self->drop_failed(model);
    });
}

void shared_models::drop_failed(const std::string& model) {
  std::shared_ptr<const file_map> gone;
  {
    const std::lock_guard guard{mutex_};
    const auto at = models_.find(model);
    if (at == models_.end() || !at->second.files)
      return;
    const bool failed = std::ranges::any_of(
        *at->second.files, [](const auto& x) { return x.second.coming && x.second.coming->why(); });
    if (!failed)
      return; // another attempt is offered by now
    gone = std::move(at->second.files);
    models_.erase(at);
  }
  tell();
}

void shared_models::offer_received(const std::string& model, const fs::path& path,
                                   std::vector<peer_file> files) {
  auto made = std::make_shared<file_map>();
  for (auto& file : files) {
    const auto name = file.path;
    file_entry x{.about = std::move(file), .key = {}, .disk = {}, .sums = {}};
    x.key = key_of(x.about);
    x.is_whole = !x.about.is_weights;
    if (auto opened = disk_file::open(path / name, false))
      x.disk = std::move(*opened);
    made->emplace(name, std::move(x));
  }
  {
    const std::lock_guard guard{mutex_};
    auto& x = models_[model];
    x.path = path;
    x.is_offered = x.is_received = true;
    x.files = std::move(made);
  }
  tell();
}

void shared_models::withdraw(const std::string& model) {
  decltype(models_)::node_type gone; // arrivals may end with it, and call back
  {
    const std::lock_guard guard{mutex_};
    gone = models_.extract(model);
  }
  tell();
}

void shared_models::set_loading(const std::string& model, bool loading) {
  {
    const std::lock_guard guard{mutex_};
    auto& x = models_[model];
    x.loads += loading ? 1 : 0;
    x.loads -= !loading && x.loads > 0 ? 1 : 0;
  }
  tell();
}

bool shared_models::knows(const std::string& model) const {
  const std::lock_guard guard{mutex_};
  const auto at = models_.find(model);
  return at != models_.end() && at->second.is_offered;
}

caf::error shared_models::add_weights(const fs::path& path, file_map& to) const {
  const auto files = checkpoint::open(path);
  if (!files)
    return files.error();
  std::vector<std::shared_ptr<const disk_file>> opened;
  for (const auto& file : (*files)->files()) {
    auto one = disk_file::of(file.fd(), file.path(), false);
    if (!one)
      return one.error();
    opened.push_back(std::move(*one));
  }
  const auto sums = sums_.open(opened);
  if (!sums)
    return sums.error();
  const auto heads = heads_of(**files);
  for (size_t i = 0; i < opened.size(); ++i) {
    file_entry x{.about = {}, .key = key_of(*opened[i]), .disk = opened[i], .sums = sums->at(i)};
    auto& about = x.about;
    about.path = opened[i]->path().lexically_relative(root_of(path)).generic_string();
    about.size_bytes = opened[i]->size_bytes();
    about.is_weights = true;
    about.head_bytes = heads[i];
    about.chunk_bytes = chunk_bytes_;
    for (uint64_t at = 0; at < about.size_bytes; at += chunk_bytes_)
      about.sums.push_back(x.sums->expected(at).value_or(checksum{}));
    about.other_version = "file:" + digest(node_ + to_string(x.key));
    about.version = version_by_sums(about);
    if (about.version.empty())
      about.version = about.other_version;
    const auto fetched = fetched_as(root_of(path), about.path);
    x.common = common_version(fetched);
    about.addressed = fetched.addressed;
    const auto name = about.path;
    to.emplace(name, std::move(x));
  }
  return {};
}

caf::error shared_models::add_small(const fs::path& path, file_map& to) const {
  if (is_gguf(path))
    return {}; // holds everything
  const auto from = open_file_source(path);
  if (!from)
    return from.error();
  const auto all = (*from)->list();
  if (!all)
    return all.error();
  for (const auto& file : *all) {
    if (to.contains(file.path) || file.size_bytes > small_bytes_max ||
        file.path.find('/') != std::string::npos)
      continue;
    auto opened = disk_file::open(path / file.path, false);
    const auto content = opened ? read_part(**opened, 0, (*opened)->size_bytes())
                                : caf::expected<std::vector<std::byte>>{opened.error()};
    if (!content)
      return content.error();
    file_entry x{.about = {}, .key = {}, .disk = std::move(*opened), .sums = {}};
    x.about.path = file.path;
    x.about.size_bytes = content->size();
    x.about.version =
        "sum:" + std::to_string(content->size()) + "-" + to_string(checksum_of(*content));
    to.emplace(file.path, std::move(x));
  }
  return {};
}

caf::expected<std::shared_ptr<const shared_models::file_map>>
shared_models::look(const std::string& model) {
  const std::lock_guard turn{looking_};
  fs::path path;
  {
    const std::lock_guard guard{mutex_};
    const auto at = models_.find(model);
    if (at == models_.end() || !at->second.is_offered)
      return unknown(model);
    if (at->second.is_received)
      return at->second.files;
    path = at->second.path;
  }
  auto made = std::make_shared<file_map>();
  auto why = add_weights(path, *made);
  if (!why)
    why = add_small(path, *made);
  if (why)
    return why;
  const std::lock_guard guard{mutex_};
  const auto at = models_.find(model);
  if (at == models_.end() || at->second.is_received || at->second.path != path)
    return unknown(model);
  at->second.files = made;
  return std::shared_ptr<const file_map>{std::move(made)};
}

caf::expected<std::vector<peer_file>> shared_models::list(const std::string& model) {
  const auto files = look(model);
  if (!files)
    return files.error();
  std::vector<peer_file> out;
  for (const auto& [path, file] : **files)
    out.push_back(file.about);
  return out;
}

caf::expected<std::optional<shared_part>> shared_models::read(const peer_request& request) {
  std::shared_ptr<const file_map> files;
  bool is_loading = false;
  {
    const std::lock_guard guard{mutex_};
    const auto at = models_.find(request.model);
    if (at == models_.end() || !at->second.is_offered)
      return unknown(request.model);
    files = at->second.files;
    is_loading = at->second.loads > 0;
  }
  if (!files) {
    auto looked = look(request.model);
    if (!looked)
      return looked.error();
    files = std::move(*looked);
  }
  const auto at = files->find(request.file);
  if (at == files->end())
    return unknown(request.model + "/" + request.file);
  const auto& file = at->second;
  const bool is_fetched = !file.common.empty() && request.version == file.common;
  if (!is_fetched && !is_same(file.about, request))
    return caf::make_error(errc::changed,
                           request.model + "/" + request.file + " is of another version there");
  if (request.offset > file.about.size_bytes ||
      request.length > file.about.size_bytes - request.offset)
    return caf::make_error(errc::short_read, request.model + "/" + request.file + " ends before");
  if (file.coming) {
    auto part = from_arrival(file, request);
    if (!part)
      return part.error();
    return std::optional{std::move(*part)};
  }
  if (auto part = from_pool(file, request))
    return std::optional{std::move(*part)};
  if (file.disk && (file.is_whole || request.offset + request.length <= file.about.head_bytes)) {
    auto part = from_disk(file, request);
    if (!part)
      return part.error();
    return std::optional{std::move(*part)};
  }
  if (is_loading)
    return std::optional<shared_part>{};
  return caf::make_error(errc::not_found,
                         "its pool holds this part of " + request.model + " no more");
}

std::optional<shared_part> shared_models::from_pool(const file_entry& x,
                                                    const peer_request& request) const {
  if (!tiers_ || !x.about.is_weights || request.length == 0)
    return std::nullopt;
  const auto begin = request.offset / chunk_bytes_ * chunk_bytes_;
  if (request.offset + request.length > begin + chunk_bytes_)
    return std::nullopt;
  const auto now = std::chrono::steady_clock::now();
  const chunk_key key{x.key, begin};
  auto lease = tiers_->pool().find(key, now);
  const auto length = std::min<uint64_t>(chunk_bytes_, x.about.size_bytes - begin);
  if (!lease && x.about.chunk_bytes == chunk_bytes_ && !x.about.sums.empty())
    if (const auto sum = x.about.sums[begin / chunk_bytes_]; sum != checksum{})
      lease = tiers_->pool().find_content(sum, length, key, now);
  if (!lease || lease->bytes().size() != length)
    return std::nullopt;
  shared_part out;
  out.bytes = lease->bytes().subspan(request.offset - begin, request.length);
  out.sum = out.bytes.size() == length ? lease->sum() : checksum_of(out.bytes);
  out.lease = std::move(*lease);
  return out;
}

caf::expected<shared_part> shared_models::from_disk(const file_entry& x,
                                                    const peer_request& request) const {
  if (auto why = x.disk->check_unchanged())
    return why;
  shared_part out;
  const auto begin = request.offset / chunk_bytes_ * chunk_bytes_;
  const auto length = std::min<uint64_t>(chunk_bytes_, x.about.size_bytes - begin);
  const bool in_chunk = x.sums && request.offset + request.length <= begin + length;
  const bool is_chunk = in_chunk && request.length == length;
  const auto known = in_chunk ? x.sums->expected(begin) : std::nullopt;
  if (is_chunk && known) {
    out.file = x.disk;
    out.sum = *known;
    return out;
  }
  // Of a part of a chunk the whole tells whether it is right.
  const bool widen = known && request.length > 0;
  auto bytes = widen ? read_part(*x.disk, begin, length)
                     : read_part(*x.disk, request.offset, request.length);
  if (!bytes)
    return bytes.error();
  if (auto why = widen ? x.sums->check(begin, checksum_of(*bytes)) : caf::error{})
    return why;
  out.own = std::move(*bytes);
  out.bytes = std::span{out.own}.subspan(widen ? request.offset - begin : 0, request.length);
  out.sum = checksum_of(out.bytes);
  if (is_chunk) {
    if (auto why = x.sums->check(request.offset, out.sum))
      return why;
    if (is_complete(*x.sums, x.about.size_bytes, chunk_bytes_))
      (void)x.sums->save(true); // the next process of this node knows the file by its content
  }
  return out;
}

caf::expected<shared_part> shared_models::from_arrival(const file_entry& x,
                                                       const peer_request& request) {
  const byte_range range{request.offset, request.length};
  if (x.coming->is_elsewhere())
    return caf::make_error(errc::in_use, "another process of its machine fetches it");
  if (!x.coming->has(range)) {
    tell_when_there(x.coming, range);
    return caf::make_error(errc::not_yet, "it has not come yet");
  }
  if (auto why = x.coming->why())
    return why;
  auto bytes = read_part(*x.coming->file(), range.offset, range.length);
  if (!bytes)
    return bytes.error();
  shared_part out;
  out.own = std::move(*bytes);
  out.bytes = out.own;
  out.sum = checksum_of(out.own);
  return out;
}

void shared_models::tell_when_there(const std::shared_ptr<arrival>& file, byte_range range) {
  const std::tuple what{static_cast<const arrival*>(file.get()), range.offset, range.length};
  {
    const std::lock_guard guard{awaited_mutex_};
    if (!awaited_.insert(what).second)
      return;
  }
  file->when_there(range, [me = weak_from_this(), what](const caf::error&) {
    const auto self = me.lock();
    if (!self)
      return;
    {
      const std::lock_guard guard{self->awaited_mutex_};
      self->awaited_.erase(what);
    }
    self->tell();
  });
}

uint64_t shared_models::subscribe(std::function<void()> callback) {
  const std::lock_guard guard{subscribers_mutex_};
  subscribers_.emplace(++last_subscription_, std::move(callback));
  return last_subscription_;
}

void shared_models::unsubscribe(uint64_t subscription) {
  const std::lock_guard guard{subscribers_mutex_};
  subscribers_.erase(subscription);
}

void shared_models::tell() {
  const std::lock_guard guard{subscribers_mutex_};
  for (const auto& [id, callback] : subscribers_)
    callback();
}

} // namespace troupe::storage

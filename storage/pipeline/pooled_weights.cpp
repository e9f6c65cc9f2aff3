#include "storage/pipeline/pooled_weights.hpp"

#include <algorithm>
#include <utility>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

/// Large tensors are waited for, and let go, in parts of this size: a power of two, and some
/// chunks.
constexpr uint64_t part_bytes = uint64_t{4} << 20;
/// Whoever goes through a large tensor needs so much of it at the same time.
constexpr uint64_t step_bytes = uint64_t{32} << 20;

/// Calls body(index) for the chunks that a range touches.
template <class Body>
void for_chunks(const planned_range& range, uint64_t chunk_bytes, const Body& body) {
  for (auto at = range.offset / chunk_bytes; at * chunk_bytes < range.offset + range.length; ++at)
    body(at);
}

} // namespace

pooled_weights::pooled_weights(std::shared_ptr<weight_tiers> tiers,
                               std::shared_ptr<const checkpoint> files)
    : tiers_{std::move(tiers)}, files_{std::move(files)} {}

caf::expected<std::shared_ptr<pooled_weights>>
pooled_weights::start(const std::shared_ptr<weight_tiers>& tiers,
                      const std::shared_ptr<const checkpoint>& files, const weights_wish& wish) {
  const std::shared_ptr<pooled_weights> out{new pooled_weights{tiers, files}};
  load_plan plan;
  const auto may = out->prepare(wish, plan);
  if (!may)
    return may.error();
  if (!*may)
    return std::shared_ptr<pooled_weights>{};
  out->load_ = tiers->pipeline().start(std::move(plan), wish.priority, out->events());
  out->follow_arrivals();
  return out;
}

void pooled_weights::list_parts(const std::vector<std::string>& names) {
  const uint64_t chunk = tiers_->pool().chunk_bytes();
  for (const auto& name : names) {
    const auto tensor = files_->find(name);
    const auto range = tensor ? locate(*files_, *tensor) : std::nullopt;
    if (!range || !tensors_.emplace(name, pooled_weights::tensor{*range, parts_.size(), 0}).second)
      continue;
    for (uint64_t at = 0; at < range->length; at += part_bytes) {
      const planned_range part{range->file, range->offset + at,
                               std::min(part_bytes, range->length - at)};
      parts_.push_back(part);
      for_chunks(part, chunk, [&](uint64_t index) { ++users_[{part.file, index}]; });
    }
  }
}

caf::expected<bool> pooled_weights::prepare(const weights_wish& wish, load_plan& plan) {
  const uint64_t chunk = tiers_->pool().chunk_bytes();
  list_parts(wish.names);
  model_ = wish.arriving;
  std::vector<std::shared_ptr<const disk_file>> opened;
  for (const auto& file : files_->files()) {
    arriving_.push_back(model_ ? model_->find(file.path()) : nullptr);
    auto one = disk_file::of(file.fd(), file.path(), !arriving_.back());
    if (!one)
      return one.error();
    opened.push_back(std::move(*one));
  }
  const bool alone = wish.from && wish.from->alone;
  unchecked_ = arriving_.size() - std::count(arriving_.begin(), arriving_.end(), nullptr);
  bool cached = tiers_->map_cached_files_ && unchecked_ == 0 && !alone;
  for (const auto& [where, users] : users_) {
    const auto [file, at] = where;
    const auto length = std::min(chunk, opened[file]->size_bytes() - at * chunk);
    total_bytes_ += length;
    cached = cached && opened[file]->is_cached(at * chunk, length);
  }
  if (cached && !(tiers_->pool().pins() && holds_all(opened)))
    return false;
  if (!make_room(wish, plan)) {
    if (!alone)
      return false;
    return caf::make_error(errc::no_memory,
                           "the weights come from another node, and the host pool has no room for "
                           "them; raise storage.pool_memory, or bring the model to this machine");
  }
  if (auto why = add_files(wish, opened, plan))
    return why;
  plan.ranges = parts_;
  return true;
}

bool pooled_weights::holds_all(const std::vector<std::shared_ptr<const disk_file>>& opened) const {
  std::vector<checksum> keys;
  for (const auto& file : opened)
    keys.push_back(make_disk_origin(*tiers_->reader_, file)->key());
  return std::ranges::all_of(users_, [&](const auto& one) {
    const auto [file, index] = one.first;
    return tiers_->pool().holds({keys[file], index * tiers_->pool().chunk_bytes()});
  });
}

caf::error pooled_weights::add_files(const weights_wish& wish,
                                     const std::vector<std::shared_ptr<const disk_file>>& opened,
                                     load_plan& plan) {
  const bool alone = wish.from && wish.from->alone;
  std::vector<std::shared_ptr<const disk_file>> here;
  for (size_t i = 0; i < opened.size(); ++i)
    if (!arriving_[i] && !alone)
      here.push_back(opened[i]);
  auto known = tiers_->sums_.open(here);
  if (!known)
    return std::move(known.error());
  auto next = known->begin();
  for (uint32_t i = 0; i < opened.size(); ++i) {
    planned_file own;
    if (arriving_[i])
      own = {make_arriving_origin(*tiers_->reader_, arriving_[i]),
             tiers_->sums_.begin(opened[i]->path(), opened[i]->size_bytes())};
    else if (!alone)
      own = {make_disk_origin(*tiers_->reader_, opened[i]), *next++};
    plan.files.push_back(wish.from ? wish.from->of(i, std::move(own)) : std::move(own));
    // What passes through lies elsewhere next time.
    chunk_view::shelf kept;
    if (!passing_)
      kept = {tiers_->mappings_, plan.files.back().origin->key()};
    auto view = chunk_view::make(tiers_->pool_, opened[i]->size_bytes(), std::move(kept));
    if (!view)
      return std::move(view.error());
    views_.push_back(std::move(*view));
  }
  record_arrivals(opened, plan);
  return {};
}

void pooled_weights::record_arrivals(const std::vector<std::shared_ptr<const disk_file>>& opened,
                                     const load_plan& plan) {
  for (size_t i = 0; i < opened.size(); ++i)
    if (arriving_[i])
      arriving_[i]->when_settled(
          [to = std::weak_ptr{tiers_}, sums = plan.files[i].sums, path = opened[i]->path()] {
            const auto tiers = to.lock();
            // What cannot be recorded is learned by the next load.
            if (const auto file = disk_file::open(path, false); file && tiers)
              (void)tiers->sums_.settle(*sums, **file);
          });
}

/// Tells in which order the files on their way are wanted, and hears whether they are right.
void pooled_weights::follow_arrivals() {
  if (!model_)
    return;
  checks_->to = this;
  std::vector<arriving_model::wish> order;
  for (const auto& part : parts_)
    if (arriving_[part.file])
      order.push_back({files_->files()[part.file].path(), {part.offset, part.length}});
  model_->prefer(order);
  for (const auto& file : arriving_)
    if (file)
      file->when_checked(
          [checks = checks_, to = std::weak_ptr{tiers_->pool_},
           key = make_arriving_origin(*tiers_->reader_, file)->key()](const caf::error& why) {
            if (const auto pool = to.lock(); pool && why)
              pool->forget(key);
            const std::lock_guard guard{checks->mutex};
            if (checks->to != nullptr)
              checks->to->one_checked(why);
          });
}

void pooled_weights::one_checked(const caf::error& why) {
  {
    const std::lock_guard guard{mutex_};
    --unchecked_;
    if (why && !state_.why)
      state_.why = why;
    note_end();
  }
  if (why)
    load_->cancel();
}

/// With the mutex held.
void pooled_weights::note_end() {
  state_.over = all_read_ && (unchecked_ == 0 || state_.why);
  if (state_.over && !state_.why)
    state_.parts = parts_.size();
  changed_.notify_all();
}

bool pooled_weights::make_room(const weights_wish& wish, load_plan& plan) {
  auto& pool = tiers_->pool();
  reserved_ = static_cast<uint32_t>(users_.size());
  if (pool.reserve(reserved_))
    return true;
  uint64_t largest = 0;
  for (const auto& [name, tensor] : tensors_)
    largest = std::max(largest, tensor.whole.length);
  // More than is needed at once, so that reading goes on meanwhile.
  reserved_ = working_set(parts_, pool.chunk_bytes(),
                          wish.in_order ? std::min(largest, step_bytes) : UINT64_MAX) +
              tiers_->pipeline().window();
  plan.held_max = reserved_;
  passing_ = pool.reserve(reserved_);
  if (!passing_)
    reserved_ = 0;
  return passing_;
}

load_events pooled_weights::events() {
  // `this` outlives the load: the destructor waits for `done`.
  return {
      .chunk =
          [this](loaded_chunk x) { return views_[x.file]->place(x.offset, std::move(x.bytes)); },
      .progress =
          [this](size_t parts, uint64_t bytes) {
            const std::lock_guard guard{mutex_};
            state_.parts = parts;
            state_.bytes = bytes;
            changed_.notify_all();
          },
      .done =
          [this](caf::error why) {
            if (why)
              for (const auto& file : arriving_)
                if (file && file->why())
                  tiers_->pool_->forget(make_arriving_origin(*tiers_->reader_, file)->key());
            const std::lock_guard guard{mutex_};
            all_read_ = true;
            if (!state_.why)
              state_.why = std::move(why);
            note_end();
          }};
}

pooled_weights::~pooled_weights() {
  {
    const std::lock_guard guard{checks_->mutex};
    checks_->to = nullptr;
  }
  if (load_) {
    load_->cancel();
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [this] { return all_read_; });
  }
  views_.clear();
  tiers_->pool().unreserve(reserved_);
}

std::optional<tensor_view> pooled_weights::find(std::string_view name) const {
  const auto at = tensors_.find(name);
  if (at == tensors_.end())
    return std::nullopt;
  const auto& where = at->second.whole;
  auto out = *files_->find(name);
  out.bytes = views_[where.file]->bytes().subspan(where.offset, where.length);
  return out;
}

pinned_run pooled_weights::pinned(const std::byte* at, uint64_t size_bytes) const {
  for (const auto& view : views_) {
    const auto whole = view->bytes();
    if (at >= whole.data() && at < whole.data() + whole.size())
      return view->pinned(static_cast<uint64_t>(at - whole.data()), size_bytes);
  }
  return {nullptr, size_bytes};
}

void pooled_weights::release(std::string_view name, uint64_t bytes) {
  const uint64_t chunk = tiers_->pool().chunk_bytes();
  const std::lock_guard guard{mutex_};
  auto& from = tensors_.find(name)->second;
  // The last part may be a short one.
  const auto parts =
      bytes == from.whole.length ? (bytes + part_bytes - 1) / part_bytes : bytes / part_bytes;
  for (; from.released < parts; ++from.released) {
    const auto& part = parts_[from.first_part + from.released];
    for_chunks(part, chunk, [&](uint64_t index) {
      if (--users_.at({part.file, index}) != 0)
        return;
      views_[part.file]->drop(index * chunk);
      if (passing_)
        return load_->let_go(1);
      tiers_->pool().unreserve(1);
      --reserved_;
    });
  }
}

caf::error pooled_weights::wait(std::string_view name, uint64_t bytes,
                                const std::stop_token& stop) const {
  const auto needed =
      tensors_.find(name)->second.first_part + (bytes + part_bytes - 1) / part_bytes;
  std::unique_lock guard{mutex_};
  changed_.wait(guard, stop, [&] { return state_.over || state_.why || usable() >= needed; });
  // What came of files of which one is wrong is of no use, however much of it there is.
  return usable() >= needed && (!model_ || !state_.why) ? caf::error{} : state_.why;
}

pooled_weights::state pooled_weights::follow(uint64_t bytes) const {
  std::unique_lock guard{mutex_};
  changed_.wait(guard, [&] { return state_.over || state_.bytes > bytes; });
  return state_;
}

uint32_t working_set(std::span<const planned_range> parts, uint64_t chunk_bytes, uint64_t step) {
  struct use {
    size_t first = 0, last = 0; ///< parts
  };
  std::map<std::pair<uint32_t, uint64_t>, use> uses;
  // Where parts begin and end, if they lay one behind the other.
  std::vector<uint64_t> begins, ends;
  uint64_t total = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    begins.push_back(total);
    ends.push_back(total += parts[i].length);
    for_chunks(parts[i], chunk_bytes, [&](uint64_t index) {
      uses.try_emplace({parts[i].file, index}, use{i, i}).first->second.last = i;
    });
  }
  // A part goes when it was used whole, and a step may begin at its end. So a chunk is needed from
  // the first part on from whose end a step reaches it, until its own last part.
  std::vector<int64_t> change(parts.size() + 1);
  for (const auto& [where, use] : uses) {
    const auto begin = begins[use.first];
    const auto from =
        begin < step ? size_t{0}
                     : static_cast<size_t>(
                           std::upper_bound(ends.begin(), ends.end(), begin - step) - ends.begin());
    ++change[std::min(from, use.first)];
    --change[use.last + 1];
  }
  int64_t now = 0, most = 0;
  for (const auto x : change)
    most = std::max(most, now += x);
  return static_cast<uint32_t>(most);
}

} // namespace troupe::storage

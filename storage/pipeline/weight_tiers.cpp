#include "storage/pipeline/weight_tiers.hpp"

#include <algorithm>
#include <utility>

#include "storage/errors.hpp"

namespace troupe::storage {

weight_tiers::weight_tiers(std::shared_ptr<chunk_pool> pool, std::shared_ptr<disk_reader> reader,
                           const weight_tiers_options& options)
    : pool_{std::move(pool)}, reader_{std::move(reader)}, sums_{options.checksums,
                                                                pool_->chunk_bytes()},
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

pooled_weights::pooled_weights(std::shared_ptr<weight_tiers> tiers,
                               std::shared_ptr<const checkpoint> files)
    : tiers_{std::move(tiers)}, files_{std::move(files)} {}

caf::expected<std::shared_ptr<pooled_weights>>
pooled_weights::start(const std::shared_ptr<weight_tiers>& tiers,
                      const std::shared_ptr<const checkpoint>& files,
                      const std::vector<std::string>& names, load_priority priority) {
  const std::shared_ptr<pooled_weights> out{new pooled_weights{tiers, files}};
  load_plan plan;
  if (auto why = out->prepare(names, plan))
    return why;
  if (plan.files.empty())
    return std::shared_ptr<pooled_weights>{};
  auto events = out->events();
  out->load_ = tiers->pipeline().start(std::move(plan), priority, std::move(events));
  return out;
}

caf::error pooled_weights::prepare(const std::vector<std::string>& names, load_plan& plan) {
  const uint64_t chunk = tiers_->pool().chunk_bytes();
  for (const auto& name : names) {
    const auto tensor = files_->find(name);
    const auto range = tensor ? locate(*files_, *tensor) : std::nullopt;
    if (!range || !names_.emplace(name, ranges_.size()).second)
      continue;
    ranges_.push_back(*range);
    for (auto at = range->offset / chunk; at * chunk < range->offset + range->length; ++at)
      ++users_[{range->file, at}];
  }
  std::vector<std::shared_ptr<const disk_file>> opened;
  for (const auto& file : files_->files()) {
    auto one = disk_file::of(file.fd(), file.path());
    if (!one)
      return one.error();
    opened.push_back(std::move(*one));
  }
  bool cached = tiers_->map_cached_files_;
  for (const auto& [where, users] : users_) {
    const auto [file, at] = where;
    const auto length = std::min(chunk, opened[file]->size_bytes() - at * chunk);
    total_bytes_ += length;
    cached = cached && opened[file]->is_cached(at * chunk, length);
  }
  if (cached || !tiers_->pool().reserve(static_cast<uint32_t>(users_.size())))
    return {};
  reserved_ = static_cast<uint32_t>(users_.size());
  auto sums = tiers_->sums_.open(opened);
  if (!sums)
    return sums.error();
  for (size_t i = 0; i < opened.size(); ++i) {
    auto view = chunk_view::make(tiers_->pool_, opened[i]->size_bytes());
    if (!view)
      return view.error();
    views_.push_back(std::move(*view));
    plan.files.push_back({make_disk_origin(*tiers_->reader_, opened[i]), sums->at(i)});
  }
  plan.ranges = ranges_;
  return {};
}

load_events pooled_weights::events() {
  // `this` outlives the load: the destructor waits for `done`.
  return {
      .chunk =
          [this](loaded_chunk x) { return views_[x.file]->place(x.offset, std::move(x.bytes)); },
      .progress =
          [this](size_t tensors, uint64_t bytes) {
            const std::lock_guard guard{mutex_};
            state_.tensors = tensors;
            state_.bytes = bytes;
            changed_.notify_all();
          },
      .done =
          [this](caf::error why) {
            const std::lock_guard guard{mutex_};
            state_.over = true;
            state_.why = std::move(why);
            if (!state_.why)
              state_.tensors = ranges_.size();
            changed_.notify_all();
          }};
}

pooled_weights::~pooled_weights() {
  if (load_) {
    load_->cancel();
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [this] { return state_.over; });
  }
  views_.clear();
  tiers_->pool().unreserve(reserved_);
}

std::optional<tensor_view> pooled_weights::find(std::string_view name) const {
  const auto at = names_.find(std::string{name});
  if (at == names_.end())
    return std::nullopt;
  const auto& range = ranges_[at->second];
  auto out = *files_->find(name);
  out.bytes = views_[range.file]->bytes().subspan(range.offset, range.length);
  return out;
}

void pooled_weights::release(size_t tensor) {
  const uint64_t chunk = tiers_->pool().chunk_bytes();
  const auto& range = ranges_[tensor];
  const std::lock_guard guard{mutex_};
  for (auto at = range.offset / chunk; at * chunk < range.offset + range.length; ++at)
    if (--users_.at({range.file, at}) == 0)
      views_[range.file]->drop(at * chunk);
}

pooled_weights::state pooled_weights::wait(size_t tensors, uint64_t bytes) const {
  std::unique_lock guard{mutex_};
  changed_.wait(guard,
                [&] { return state_.over || state_.tensors >= tensors || state_.bytes > bytes; });
  return state_;
}

} // namespace troupe::storage

#include "storage/sources/group_source.hpp"

#include <algorithm>
#include <utility>

#include "storage/errors.hpp"
#include "storage/sources/retry.hpp"

namespace troupe::storage {

namespace {

using std::chrono::milliseconds;

/// Between two questions to a node that does not know of the files yet.
constexpr milliseconds look_again{100};

} // namespace

group_source::group_source(std::shared_ptr<source> from, fetch_group group, group_options options)
    : from_{std::move(from)}, options_{std::move(options)}, turns_{std::move(group.turns)} {
  for (auto& one : group.members)
    members_.push_back({std::move(one)});
}

bool group_source::is_shared(const source_file& file) const {
  return !members_.empty() && file.ranged && !common_version(file).empty() &&
         (!options_.offered || options_.offered(file.path));
}

std::vector<uint32_t> group_source::turns(const source_file& file, uint64_t offset) const {
  // Or the first parts of all files would be the first node's.
  uint64_t shift = 0;
  for (const char c : file.path)
    shift = shift * 31 + static_cast<unsigned char>(c);
  return turns_(offset / options_.part_bytes + shift % 65'521);
}

bool group_source::is_lost(uint32_t index) const {
  const std::lock_guard guard{mutex_};
  return members_[index].lost;
}

void group_source::lose(uint32_t index, const std::string& why) {
  const std::lock_guard guard{mutex_};
  if (!std::exchange(members_[index].lost, true) && options_.warn)
    options_.warn(members_[index].from->name() + " is left out: " + why);
}

bool group_source::comes_from_peer(const source_file& file, uint64_t offset) const {
  if (!is_shared(file))
    return false;
  for (const auto turn : turns(file, offset)) {
    const auto& one = members_[turn - 1];
    if (one.from == nullptr)
      return false;
    if (!is_lost(turn - 1))
      return true;
  }
  return false;
}

unsigned group_source::peers() const {
  return static_cast<unsigned>(
      std::ranges::count_if(members_, [](const member& x) { return x.from != nullptr; }));
}

milliseconds group_source::patience() const {
  const std::lock_guard guard{mutex_};
  if (longest_part_.count() == 0)
    return options_.patience;
  return std::max(longest_part_ * static_cast<int>(members_.size()), options_.patience_min);
}

/// Reads what is left; `left` is what is still left then.
caf::error group_source::reading::from(source& where, const source_file& there) {
  const auto keep = [this](std::span<const std::byte> piece) {
    auto why = sink(piece);
    refused = static_cast<bool>(why);
    if (refused)
      return why;
    left.offset += piece.size();
    left.length -= std::min<uint64_t>(left.length, piece.size());
    return why;
  };
  return where.stream(there, left, keep, stop);
}

/// Whether asking anybody else would be of no use.
bool group_source::reading::is_over(const caf::error& why) const {
  return !why || refused || why == errc::cancelled;
}

caf::error group_source::by_myself(reading& what) {
  const auto began = clock::now();
  const auto bytes = what.left.length;
  auto why = what.from(*from_, what.file);
  if (!why && bytes == options_.part_bytes) {
    const auto took = std::chrono::duration_cast<milliseconds>(clock::now() - began);
    const std::lock_guard guard{mutex_};
    longest_part_ = std::max(longest_part_, took);
  }
  return why;
}

caf::error group_source::by(uint32_t index, reading& what, milliseconds patience) {
  auto& from = *members_[index].from;
  const source_file there{.path = what.file.path,
                          .size_bytes = what.file.size_bytes,
                          .version = common_version(what.file),
                          .sha256 = {}};
  auto since = clock::now();
  while (true) {
    const auto at = what.left.offset;
    auto why = what.from(from, there);
    if (what.left.offset > at) {
      const std::lock_guard guard{mutex_};
      members_[index].gave[what.file.path].push_back({at, what.left.offset - at});
      since = clock::now();
    }
    const bool unknown = why == errc::not_found && clock::now() - began_ < options_.start;
    if (what.is_over(why) || (why != errc::not_yet && !unknown))
      return why;
    if (clock::now() - since >= patience)
      return why;
    if (unknown && !wait_for(look_again, what.stop))
      return caf::make_error(errc::cancelled, "fetching " + what.file.path + ": cancelled");
  }
}

/// A read within one part.
caf::error group_source::part(reading& what) {
  caf::error why_mine;
  for (const auto turn : turns(what.file, what.left.offset)) {
    const auto index = turn - 1;
    if (members_[index].from == nullptr) {
      why_mine = by_myself(what);
      // Whether others can help.
      if (what.is_over(why_mine) || why_mine != errc::unavailable)
        return why_mine;
      continue;
    }
    if (is_lost(index))
      continue;
    // Who comes behind this node may wait for it, and must not be waited for.
    const auto why = by(index, what, why_mine ? milliseconds{0} : patience());
    if (what.is_over(why))
      return why;
    if (!why_mine || (why != errc::not_yet && why != errc::not_found))
      lose(index, why == errc::not_yet ? "it takes too long" : describe(why));
  }
  return why_mine ? why_mine : by_myself(what);
}

caf::error group_source::stream(const source_file& file, byte_range range, const byte_sink& sink,
                                std::stop_token stop) {
  if (!is_shared(file))
    return from_->stream(file, range, sink, std::move(stop));
  const auto end = range.offset + range.length;
  for (auto at = range.offset; at < end;) {
    const auto next = std::min(end, (at / options_.part_bytes + 1) * options_.part_bytes);
    reading what{file, {at, next - at}, sink, stop};
    if (auto why = part(what))
      return why;
    at = next;
  }
  return {};
}

std::vector<byte_range> group_source::doubt(const source_file& file) {
  std::vector<byte_range> out;
  for (uint32_t i = 0; i < members_.size(); ++i) {
    std::vector<byte_range> gave;
    {
      const std::lock_guard guard{mutex_};
      gave = std::exchange(members_[i].gave[file.path], {});
    }
    if (!gave.empty())
      lose(i, "a part of " + file.path + " that came from there may be wrong");
    out.insert(out.end(), gave.begin(), gave.end());
  }
  return out.empty() ? from_->doubt(file) : out;
}

} // namespace troupe::storage

#include "storage/sources/mirror_source.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

using clock = delivery_shares::clock;

bool vouches(const source_file& x) { return !x.sha256.empty() || !x.git_blob.empty(); }

/// Whether both have it from the same place, in the same state.
bool is_same_copy(const source_file& ours, const source_file& theirs) {
  return !ours.addressed.empty() && ours.addressed == theirs.addressed;
}

/// What two descriptions say against their being of the same file; empty if nothing.
std::string difference(const source_file& ours, const source_file& theirs) {
  if (ours.size_bytes != theirs.size_bytes)
    return "has " + std::to_string(theirs.size_bytes) + " bytes there, not " +
           std::to_string(ours.size_bytes);
  const auto other = [](const std::string& a, const std::string& b) {
    return !a.empty() && !b.empty() && a != b;
  };
  if (other(ours.sha256, theirs.sha256) || other(ours.git_blob, theirs.git_blob))
    return "has another checksum there";
  return {};
}

} // namespace

mirror_source::mirror_source(std::vector<std::shared_ptr<source>> all, warning warn, size_t places)
    : warn_{std::move(warn)}, places_{std::min(places, all.size())}, shares_{all.size()} {
  for (auto& one : all)
    members_.push_back({std::move(one)});
}

void mirror_source::warn_once(size_t index, const std::string& why) {
  if (std::exchange(members_[index].warned, true) || !warn_)
    return;
  warn_(members_[index].from->name() + " is left out: " + why);
}

void mirror_source::leave_out(size_t index, caf::error why) {
  shares_.lose(index);
  warn_once(index, describe(why));
  members_[index].why = std::move(why);
}

caf::error mirror_source::failure_of_all(const caf::error& last, size_t index) {
  std::string text = describe(last);
  for (size_t i = 0; i < members_.size(); ++i)
    if (i != index && members_[i].why)
      text += "; " + members_[i].from->name() + ": " + describe(members_[i].why);
  // Nothing better is left: what may have passed is tried again.
  for (size_t i = 0; i < members_.size(); ++i)
    if (members_[i].why == errc::unavailable)
      shares_.find_again(i);
  members_[index].why = last;
  return text == describe(last) ? last : caf::make_error(static_cast<errc>(last.code()), text);
}

caf::expected<std::vector<source_file>> mirror_source::list(std::stop_token stop) {
  for (size_t i = 0; i < places_; ++i) {
    auto out = members_[i].from->list(stop);
    const std::lock_guard guard{mutex_};
    if (out) {
      primary_ = i;
      for (size_t k = 0; k < i; ++k)
        leave_out(k, members_[k].why);
      return out;
    }
    if (out.error() == errc::cancelled)
      return out;
    if (i + 1 == places_)
      return failure_of_all(out.error(), i);
    members_[i].why = std::move(out.error());
  }
  return caf::make_error(errc::not_found, "no source"); // there is one at least
}

caf::expected<source_file> mirror_source::stat(const std::string& path, std::stop_token stop) {
  auto out = members_[primary_].from->stat(path, std::move(stop));
  const std::lock_guard guard{mutex_};
  // It is another one now: what the others have is not asked again.
  holders_.erase(path);
  return out;
}

/// Not every listing has what the source knows of a file.
void mirror_source::ask_for_checksums(std::vector<source_file>& files,
                                      const std::stop_token& stop) const {
  for (auto& file : files) {
    if (vouches(file))
      continue;
    const auto asked = members_[primary_].from->stat(file.path, stop);
    if (!asked && asked.error() != errc::not_found)
      return; // whoever reads it will hear the same
    if (asked && asked->version == file.version && asked->size_bytes == file.size_bytes)
      file.sha256 = asked->sha256;
  }
}

std::vector<source_file> mirror_source::match(std::vector<source_file> files,
                                              const std::stop_token& stop) {
  std::vector<answers> all(members_.size());
  {
    std::vector<std::jthread> askers;
    askers.emplace_back([&] { ask_for_checksums(files, stop); });
    for (size_t i = 0; i < members_.size(); ++i)
      if (i != primary_ && !shares_.is_lost(i))
        askers.emplace_back([&, i] {
          for (const auto& file : files) {
            all[i].push_back(members_[i].from->stat(file.path, stop));
            if (const auto& got = all[i].back(); !got && got.error() != errc::not_found)
              break; // one such answer is enough
          }
        });
  }
  const std::lock_guard guard{mutex_};
  for (const auto& file : files)
    holders_[file.path] = {{primary_, file}};
  for (size_t i = 0; i < members_.size(); ++i)
    if (!all[i].empty())
      take_in(i, all[i], files);
  return files;
}

/// With the mutex held.
void mirror_source::take_in(size_t index, answers& theirs, std::vector<source_file>& files) {
  size_t unproven = 0, same = 0;
  for (size_t k = 0; k < theirs.size(); ++k) {
    auto& ours = files[k];
    if (!theirs[k] && theirs[k].error() == errc::not_found)
      continue;
    const auto against = theirs[k] ? difference(ours, *theirs[k]) : std::string{};
    if (!theirs[k] || !against.empty()) {
      for (auto& [path, holders] : holders_)
        std::erase_if(holders, [&](const holder& x) { return x.member == index; });
      return leave_out(index, theirs[k]
                                  ? caf::make_error(errc::inconsistent, ours.path + " " + against)
                                  : theirs[k].error());
    }
    if (!vouches(ours) && !vouches(*theirs[k]) && !is_same_copy(ours, *theirs[k])) {
      ++unproven;
      continue;
    }
    if (!theirs[k]->ranged)
      continue;
    if (ours.sha256.empty())
      ours.sha256 = theirs[k]->sha256;
    if (ours.git_blob.empty())
      ours.git_blob = theirs[k]->git_blob;
    holders_[ours.path].push_back({index, std::move(*theirs[k])});
    ++same;
  }
  if (index >= places_)
    return; // nobody was promised that it has them
  if (unproven > 0)
    warn_once(index, "nothing proves that " + std::to_string(unproven) +
                         " of its files are the same ones: no checksum is known of them");
  else if (same == 0)
    warn_once(index, "it has none of the files");
}

mirror_source::holder* mirror_source::held_by(const std::string& path, size_t index) {
  const auto at = holders_.find(path);
  if (at == holders_.end())
    return nullptr;
  const auto found = std::ranges::find(at->second, index, &holder::member);
  return found == at->second.end() ? nullptr : &*found;
}

/// Reads from one of them; `range` is what is left to read afterwards.
caf::error mirror_source::part(const source_file& file, size_t index, byte_range& range,
                               const byte_sink& sink, bool& refused, const std::stop_token& stop) {
  source_file theirs;
  {
    const std::lock_guard guard{mutex_};
    shares_.owe(index, static_cast<double>(range.length), clock::now());
    const auto* known = held_by(file.path, index);
    theirs = known == nullptr || index == primary_ ? file : known->file;
  }
  const auto from = range.offset;
  const auto count = [&](std::span<const std::byte> piece) {
    auto why = sink(piece);
    refused = static_cast<bool>(why);
    if (refused)
      return why;
    range.offset += piece.size();
    range.length -= std::min<uint64_t>(range.length, piece.size());
    const std::lock_guard guard{mutex_};
    shares_.came(index, static_cast<double>(piece.size()), clock::now());
    return why;
  };
  auto why = members_[index].from->stream(theirs, range, count, stop);
  const std::lock_guard guard{mutex_};
  shares_.forgive(index, static_cast<double>(range.length));
  if (auto* known = held_by(file.path, index); known != nullptr && range.offset > from)
    known->gave.push_back({from, range.offset - from});
  return why;
}

caf::error mirror_source::stream(const source_file& file, byte_range range, const byte_sink& sink,
                                 std::stop_token stop) {
  std::vector<size_t> too_early; // what is read has not come to them yet
  while (range.length > 0) {
    size_t index = 0;
    {
      const std::lock_guard guard{mutex_};
      // What was not matched is the first one's alone.
      const auto may = [&](size_t i) {
        if (std::ranges::find(too_early, i) != too_early.end())
          return false;
        return holders_.contains(file.path) ? held_by(file.path, i) != nullptr : i == primary_;
      };
      index = shares_.choose(static_cast<double>(range.length), may).value_or(primary_);
    }
    bool refused = false;
    auto why = part(file, index, range, sink, refused, stop);
    if (!why || refused || why == errc::cancelled)
      return why;
    if (why == errc::not_yet && index != primary_) {
      too_early.push_back(index);
      continue;
    }
    const std::lock_guard guard{mutex_};
    const auto others = [&](size_t i) { return i != index && held_by(file.path, i) != nullptr; };
    if (shares_.is_lost(index) && shares_.choose(1, others))
      continue; // another read has found it out
    if (!shares_.choose(1, others))
      return failure_of_all(why, index);
    leave_out(index, std::move(why));
  }
  return {};
}

std::vector<byte_range> mirror_source::doubt(const source_file& file) {
  const std::lock_guard guard{mutex_};
  const auto at = holders_.find(file.path);
  std::vector<byte_range> out;
  if (at == holders_.end())
    return out;
  for (const bool even_if_vouching : {false, true}) {
    for (auto& one : at->second) {
      const bool suspect =
          one.member != primary_ && !one.gave.empty() && (even_if_vouching || !vouches(one.file));
      if (!suspect)
        continue;
      out.insert(out.end(), one.gave.begin(), one.gave.end());
      leave_out(one.member, caf::make_error(errc::corrupted, "a part of " + file.path +
                                                                 " that came from there is wrong"));
    }
    if (!out.empty())
      break;
  }
  for (auto& one : at->second)
    if (out.empty() || shares_.is_lost(one.member))
      one.gave.clear();
  return out;
}

std::vector<mirror_source::share> mirror_source::shares() const {
  const std::lock_guard guard{mutex_};
  std::vector<share> out;
  for (size_t i = 0; i < members_.size(); ++i)
    out.push_back({members_[i].from->name(), static_cast<uint64_t>(shares_.delivered_bytes(i))});
  return out;
}

} // namespace troupe::storage

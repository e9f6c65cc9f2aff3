#include "storage/peers/peer_source.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

#include "storage/errors.hpp"
#include "storage/sources/location.hpp"

namespace troupe::storage {

namespace {

/// What `source::stream` asks for at once.
constexpr uint64_t piece_bytes = 4u << 20;

class peer_source final : public source {
public:
  peer_source(peer_links& links, host_port at, std::string model, uint32_t patience_ms)
      : links_{links}, at_{std::move(at)}, model_{std::move(model)}, patience_ms_{patience_ms},
        name_{"peer://" + to_string(at_) + "/" + percent_encode(model_, true)} {}

  const std::string& name() const override { return name_; }

  caf::expected<source_file> stat(const std::string& path, std::stop_token stop) override {
    auto all = list(std::move(stop));
    if (!all)
      return all.error();
    const auto at = std::ranges::find(*all, path, &source_file::path);
    if (at == all->end())
      return caf::make_error(errc::not_found, name_ + "/" + path + ": no such file");
    return std::move(*at);
  }

  caf::expected<std::vector<source_file>> list(std::stop_token stop) override {
    const auto all = list_at_peer(links_, at_, model_, std::move(stop));
    if (!all)
      return all.error();
    std::vector<source_file> out;
    for (const auto& x : *all)
      out.push_back({.path = x.path,
                     .size_bytes = x.size_bytes,
                     .version = x.version,
                     .sha256 = {},
                     .addressed = x.addressed});
    return out;
  }

  caf::error stream(const source_file& file, byte_range range, const byte_sink& sink,
                    std::stop_token stop) override {
    std::vector<std::byte> piece(std::min(piece_bytes, range.length));
    const auto end = range.offset + range.length;
    for (auto at = range.offset; at < end;) {
      // Whole chunks: the peer knows checksums of those.
      const auto next = std::min(end, (at / piece_bytes + 1) * piece_bytes);
      const auto part = std::span{piece}.first(static_cast<size_t>(next - at));
      if (auto why = read(file, at, part, stop))
        return why;
      if (auto why = sink(part))
        return why;
      at = next;
    }
    return {};
  }

  caf::error read(const source_file& file, uint64_t offset, std::span<std::byte> into,
                  std::stop_token stop) override {
    for (size_t done = 0; done < into.size();) {
      const auto part = into.subspan(done, std::min<size_t>(into.size() - done, piece_bytes));
      const auto answer = links_.call(at_,
                                      {.call = peer_call::read,
                                       .model = model_,
                                       .file = file.path,
                                       .version = file.version,
                                       .offset = offset + done,
                                       .length = static_cast<uint32_t>(part.size()),
                                       .patience_ms = patience_ms_},
                                      part, stop);
      if (!answer)
        return answer.error();
      done += part.size();
    }
    return {};
  }

private:
  peer_links& links_;
  const host_port at_;
  const std::string model_;
  const uint32_t patience_ms_;
  const std::string name_;
};

class peer_origin final : public chunk_origin, public std::enable_shared_from_this<peer_origin> {
public:
  peer_origin(peer_links& links, peer_origin_setup setup)
      : links_{links}, setup_{std::move(setup)}, key_{key_of(setup_.file)} {}

  std::string name() const override {
    return setup_.file.path + " at the peer " + to_string(setup_.at);
  }
  uint64_t size_bytes() const override { return setup_.file.size_bytes; }
  checksum key() const override { return key_; }
  // Every read is checked against the version already.
  caf::error check_unchanged() const override { return {}; }

  void read(uint64_t offset, std::span<std::byte> into, read_done done) override {
    peer_request request{.call = peer_call::read,
                         .model = setup_.model,
                         .file = setup_.file.path,
                         .version = setup_.file.version,
                         .offset = offset,
                         .length = static_cast<uint32_t>(into.size()),
                         .patience_ms = setup_.patience_ms,
                         .other_version = setup_.file.other_version};
    links_.ask(setup_.at, std::move(request), into,
               [self = shared_from_this(), offset, into,
                done = std::move(done)](caf::expected<peer_answer> answer) {
                 done(answer ? self->check(offset, into, answer->sum) : answer.error());
               });
  }

private:
  caf::error check(uint64_t offset, std::span<const std::byte> bytes, const checksum& sum) const {
    const auto known = setup_.expected ? setup_.expected(offset) : std::nullopt;
    if (known && *known != sum)
      return caf::make_error(errc::changed, name() + ": has other bytes at " +
                                                std::to_string(offset) + " than are recorded here");
    if (setup_.received)
      *setup_.received += bytes.size();
    return {};
  }

  peer_links& links_;
  const peer_origin_setup setup_;
  const checksum key_;
};

class routed_origin final : public chunk_origin,
                            public std::enable_shared_from_this<routed_origin> {
public:
  routed_origin(std::vector<std::shared_ptr<chunk_origin>> members,
                std::function<std::vector<uint32_t>(uint64_t)> route)
      : members_{std::move(members)}, route_{std::move(route)}, lost_(members_.size()) {}

  std::string name() const override { return members_.front()->name(); }
  uint64_t size_bytes() const override { return members_.front()->size_bytes(); }
  checksum key() const override { return members_.front()->key(); }
  caf::error check_unchanged() const override { return members_.front()->check_unchanged(); }

  void read(uint64_t offset, std::span<std::byte> into, read_done done) override {
    const auto route = route_(offset);
    std::optional<uint32_t> chosen;
    {
      const std::lock_guard guard{mutex_};
      const auto at = std::ranges::find_if(
          route, [this](uint32_t i) { return members_[i] != nullptr && !lost_[i]; });
      if (at != route.end())
        chosen = *at;
    }
    if (!chosen)
      return done(why_none());
    members_[*chosen]->read(offset, into,
                            [self = shared_from_this(), chosen = *chosen, offset, into,
                             done = std::move(done)](caf::error why) {
                              if (!why)
                                return done({});
                              self->lose(chosen, std::move(why));
                              self->read(offset, into, done);
                            });
  }

private:
  void lose(uint32_t index, caf::error why) {
    const std::lock_guard guard{mutex_};
    lost_[index] = true;
    why_ = std::move(why);
  }
  caf::error why_none() const {
    const std::lock_guard guard{mutex_};
    return why_ ? why_ : caf::make_error(errc::unavailable, name() + ": nobody has it");
  }

  const std::vector<std::shared_ptr<chunk_origin>> members_;
  const std::function<std::vector<uint32_t>(uint64_t)> route_;
  mutable std::mutex mutex_;
  std::vector<bool> lost_;
  caf::error why_;
};

} // namespace

std::shared_ptr<source> make_peer_source(peer_links& links, host_port at, std::string model,
                                         uint32_t patience_ms) {
  return std::make_shared<peer_source>(links, std::move(at), std::move(model), patience_ms);
}

caf::expected<std::vector<peer_file>> list_at_peer(peer_links& links, const host_port& at,
                                                   const std::string& model, std::stop_token stop) {
  auto answer = links.call(at, {.call = peer_call::list, .model = model}, {}, std::move(stop));
  if (!answer)
    return answer.error();
  return std::move(answer->files);
}

std::shared_ptr<chunk_origin> make_peer_origin(peer_links& links, peer_origin_setup setup) {
  return std::make_shared<peer_origin>(links, std::move(setup));
}

std::shared_ptr<chunk_origin>
make_routed_origin(std::vector<std::shared_ptr<chunk_origin>> members,
                   std::function<std::vector<uint32_t>(uint64_t)> route) {
  return std::make_shared<routed_origin>(std::move(members), std::move(route));
}

} // namespace troupe::storage

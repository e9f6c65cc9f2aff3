#include "storage/peers/peer_links.hpp"

#include <algorithm>
#include <optional>
#include <thread>
#include <unordered_map>
#include <utility>

#include <sys/socket.h>

#include "storage/errors.hpp"
#include "storage/peers/peer_socket.hpp"
#include "storage/peers/receive_message.hpp"

namespace troupe::storage {

namespace {

using std::chrono::milliseconds;
using clock = std::chrono::steady_clock;

/// The rate of a peer forgets what is older than so many seconds of sending.
constexpr double rate_memory_seconds = 2;

milliseconds since(clock::time_point when) {
  return std::chrono::duration_cast<milliseconds>(clock::now() - when);
}

} // namespace

/// One connection: its thread connects, sends what is in the outbox, and receives.
class peer_links::link : public std::enable_shared_from_this<link> {
public:
  link(peer_links& owner, host_port where)
      : owner_{owner}, where_{std::move(where)}, name_{"the peer " + to_string(where_)} {}

  void ask(peer_request request, std::span<std::byte> into, peer_done done) {
    {
      const std::lock_guard guard{mutex_};
      if (!over_) {
        request.number = ++last_;
        if (owed_.empty())
          active_ = busy_since_ = clock::now();
        owed_.emplace(request.number, owed{into, std::move(done)});
        outbox_ += frame(request);
        event_.set();
        return;
      }
    }
    done(why_over());
  }
  void stop() {
    {
      const std::lock_guard guard{mutex_};
      stopping_ = true;
    }
    stop_event_.set();
    event_.set();
    const std::lock_guard guard{socket_mutex_};
    if (socket_)
      ::shutdown(socket_.get(), SHUT_RDWR);
  }
  /// Answers outstanding; nothing if the connection is over.
  std::optional<size_t> load() const {
    const std::lock_guard guard{mutex_};
    return over_ ? std::nullopt : std::optional{owed_.size()};
  }
  void run() {
    auto why = serve();
    std::unordered_map<uint64_t, owed> left;
    {
      const std::lock_guard guard{mutex_};
      over_ = true;
      if (stopping_)
        why = caf::make_error(errc::cancelled, name_ + ": this node is stopping");
      why_ = why;
      left.swap(owed_);
    }
    for (auto& [number, one] : left)
      one.done(why);
  }

private:
  struct owed {
    std::span<std::byte> into;
    peer_done done;
  };

  caf::error named(const caf::error& why) const {
    const auto code = why == errc::malformed   ? errc::malformed
                      : why == errc::cancelled ? errc::cancelled
                                               : errc::unavailable;
    return caf::make_error(code, name_ + ": " + describe(why));
  }
  caf::error why_over() const {
    const std::lock_guard guard{mutex_};
    return why_;
  }

  caf::error serve() {
    auto made = connect_to(where_, owner_.options_.connect_timeout, stop_event_);
    if (!made)
      return named(made.error());
    prepare(made->get(), owner_.options_.connect_timeout);
    {
      const std::lock_guard guard{socket_mutex_};
      socket_ = std::move(*made);
    }
    const auto hello = frame(peer_hello{.node = owner_.options_.node});
    if (auto why = send_all(socket_.get(), std::as_bytes(std::span{hello})))
      return named(why);
    if (auto why = greet())
      return named(why);
    for (;;) {
      if (auto why = flush())
        return named(why);
      if (auto why = wait())
        return named(why);
    }
  }

  caf::error greet() {
    peer_hello theirs;
    if (auto why =
            receive_message(socket_.get(), peer_request_bytes_max, owner_.options_.stall, theirs))
      return why;
    if (theirs.protocol != peer_protocol)
      return caf::make_error(errc::unavailable,
                             "it speaks version " + std::to_string(theirs.protocol) +
                                 " of the data plane, this node " + std::to_string(peer_protocol) +
                                 ": run one version of troupe on both");
    return {};
  }

  caf::error flush() {
    std::string out;
    {
      const std::lock_guard guard{mutex_};
      if (stopping_)
        return caf::make_error(errc::cancelled, "this node is stopping");
      out.swap(outbox_);
    }
    return send_all(socket_.get(), std::as_bytes(std::span{out}));
  }

  caf::error wait() {
    milliseconds left{-1};
    const auto stall = owner_.options_.stall;
    {
      const std::lock_guard guard{mutex_};
      if (!owed_.empty())
        left = std::max(stall - since(active_), milliseconds{0});
    }
    const auto ready = wait_for_any(socket_.get(), event_, left);
    if (ready.event)
      event_.clear();
    if (ready.socket)
      return take_answer();
    if (!ready.event && left.count() >= 0 && is_stalled())
      return caf::make_error(errc::unavailable,
                             "nothing came for " + std::to_string(stall.count()) + " ms");
    return {};
  }

  bool is_stalled() const {
    const std::lock_guard guard{mutex_};
    return !owed_.empty() && since(active_) >= owner_.options_.stall;
  }

  caf::error take_answer() {
    peer_answer answer;
    if (auto why =
            receive_message(socket_.get(), peer_answer_bytes_max, owner_.options_.stall, answer))
      return why;
    std::span<std::byte> into;
    {
      const std::lock_guard guard{mutex_};
      active_ = clock::now();
      const auto at = owed_.find(answer.number);
      if (at == owed_.end())
        return caf::make_error(errc::malformed, "it answers what was not asked");
      if (answer.pending)
        return {};
      into = at->second.into;
    }
    if (answer.payload_bytes != (answer.error_code == 0 ? into.size() : 0))
      return caf::make_error(errc::malformed, "it sends another length than was asked for");
    if (answer.error_code != 0)
      return settle(answer.number, error_of(answer, name_));
    if (auto why = receive_all(socket_.get(), into, owner_.options_.stall))
      return why;
    owner_.received_ += into.size();
    if (!into.empty() && checksum_of(into) != answer.sum)
      return settle(answer.number,
                    caf::make_error(errc::corrupted, name_ + ": bytes came damaged"));
    const auto number = answer.number;
    return settle(number, std::move(answer), into.size());
  }

  caf::error settle(uint64_t number, caf::expected<peer_answer> what, uint64_t bytes = 0) {
    peer_done done;
    double seconds = 0;
    {
      const std::lock_guard guard{mutex_};
      active_ = clock::now();
      seconds =
          std::chrono::duration<double>(active_ - std::exchange(busy_since_, active_)).count();
      const auto at = owed_.find(number);
      done = std::move(at->second.done);
      owed_.erase(at);
    }
    if (bytes > 0)
      owner_.note(where_, bytes, seconds);
    done(std::move(what));
    return {};
  }

  peer_links& owner_;
  const host_port where_;
  const std::string name_;
  wake_event event_, stop_event_;
  std::mutex socket_mutex_; ///< for `stop`; the socket changes once
  descriptor socket_;

  mutable std::mutex mutex_; ///< of what follows
  std::unordered_map<uint64_t, owed> owed_;
  uint64_t last_ = 0;
  std::string outbox_;
  clock::time_point active_{}, busy_since_{};
  bool stopping_ = false, over_ = false;
  caf::error why_;
};

peer_links::peer_links(peer_links_options options) : options_{std::move(options)} {}

peer_links::~peer_links() {
  std::vector<std::shared_ptr<link>> all;
  std::unique_lock guard{mutex_};
  stopping_ = true;
  for (const auto& [address, peer] : peers_)
    all.insert(all.end(), peer.links.begin(), peer.links.end());
  guard.unlock();
  for (const auto& one : all)
    one->stop();
  all.clear();
  guard.lock();
  ended_.wait(guard, [this] { return running_ == 0; });
}

std::shared_ptr<peer_links::link> peer_links::choose(const host_port& where) {
  const std::lock_guard guard{mutex_};
  if (stopping_)
    return nullptr;
  auto& links = peers_[to_string(where)].links;
  std::erase_if(links, [](const auto& one) { return !one->load(); });
  const auto least = std::min_element(links.begin(), links.end(), [](const auto& a, const auto& b) {
    return a->load().value_or(SIZE_MAX) < b->load().value_or(SIZE_MAX);
  });
  if (least != links.end() && (links.size() >= options_.streams || (*least)->load() == 0u))
    return *least;
  auto fresh = std::make_shared<link>(*this, where);
  links.push_back(fresh);
  ++running_;
  // Whoever is called back may be the last to let go of a connection, so threads are not joined.
  std::thread{[this, fresh]() mutable {
    fresh->run();
    fresh.reset();
    const std::lock_guard guard{mutex_};
    --running_;
    ended_.notify_all();
  }}.detach();
  return fresh;
}

void peer_links::ask(const host_port& where, peer_request request, std::span<std::byte> into,
                     peer_done done) {
  if (const auto one = choose(where))
    one->ask(std::move(request), into, std::move(done));
  else
    done(caf::make_error(errc::cancelled, "this node is stopping"));
}

caf::expected<peer_answer> peer_links::call(const host_port& where, peer_request request,
                                            std::span<std::byte> into, std::stop_token stop) {
  if (stop.stop_requested())
    return caf::make_error(errc::cancelled, "asking a peer was cancelled");
  struct outcome {
    std::mutex mutex;
    std::condition_variable signal;
    std::optional<caf::expected<peer_answer>> answer;
  };
  const auto out = std::make_shared<outcome>();
  ask(where, std::move(request), into, [out](caf::expected<peer_answer> answer) {
    const std::lock_guard guard{out->mutex};
    out->answer = std::move(answer);
    out->signal.notify_all();
  });
  // Not cut short by `stop`: until the answer comes, its bytes are written to `into`.
  std::unique_lock guard{out->mutex};
  out->signal.wait(guard, [&] { return out->answer.has_value(); });
  return std::move(*out->answer);
}

double peer_links::bytes_per_second(const host_port& where) const {
  const std::lock_guard guard{mutex_};
  const auto at = peers_.find(to_string(where));
  return at == peers_.end() || at->second.seconds <= 0 ? 0 : at->second.bytes / at->second.seconds;
}

void peer_links::note(const host_port& where, uint64_t bytes, double seconds) {
  const std::lock_guard guard{mutex_};
  auto& x = peers_[to_string(where)];
  x.bytes += static_cast<double>(bytes);
  // Several connections work at the same time.
  x.seconds += seconds / static_cast<double>(std::max<size_t>(x.links.size(), 1));
  if (x.seconds > rate_memory_seconds) {
    x.bytes *= rate_memory_seconds / x.seconds;
    x.seconds = rate_memory_seconds;
  }
}

} // namespace troupe::storage

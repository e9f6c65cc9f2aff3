#pragma once
#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/error.hpp"
#include "base/instant.hpp"
#include "base/memory_pinner.hpp"
#include "storage/integrity/checksum.hpp"
#include "storage/pool/pool_layout.hpp"
#include "storage/pool/shared_region.hpp"

namespace troupe::storage {

class chunk_pool;

/// Which part of which file. `file` is a digest of what identifies one state of a file: a file that
/// changed is another one. `offset` is a multiple of the pool's chunk size.
struct chunk_key {
  checksum file;
  uint64_t offset = 0;
  bool operator==(const chunk_key&) const = default;
};

/// How a chunk was used; what a policy of eviction has to go by.
struct chunk_use {
  double reload_seconds = 0; ///< what it cost to get
  double heat = 0;           ///< as the pool's `warmed` keeps it
  double idle_seconds = 0;   ///< since the load that used it last began
  uint32_t hits = 0;
  uint32_t order = 0; ///< position in its file
};

struct chunk_pool_options {
  /// A file on a tmpfs that survives the process, or empty: memory that goes with it.
  std::filesystem::path path{};
  uint64_t size_bytes = uint64_t{1} << 30; ///< rounded down to whole chunks
  uint32_t chunk_bytes = 4u << 20;         ///< a multiple of 4096
  /// The worth of keeping a chunk; the least goes first. Default: the one used last stays.
  std::function<double(const chunk_use&)> worth{};
  /// Heat after a use that came `idle_seconds` after the one before. Default: counts uses.
  std::function<double(double heat, double idle_seconds)> warmed{};
  /// So many bytes of room are kept ready: memory of the machine that holds nothing yet, made and
  /// cleared by a thread of its own while nothing is loaded. Clearing takes the kernel as long as a
  /// fast disk takes to fill it.
  uint64_t ready_bytes = 0;
};

struct pool_usage {
  uint64_t size_bytes = 0;      ///< of all chunks
  uint64_t committed_bytes = 0; ///< memory taken from the machine
  uint64_t held_bytes = 0;      ///< chunks that hold something
  uint64_t leased_bytes = 0;    ///< of those, in use now
  uint64_t hits = 0, misses = 0, evictions = 0;
  uint64_t shared_bytes = 0; ///< bytes of files that are held in a chunk of other ones
  uint64_t reattached = 0;   ///< chunks that an earlier process left
  uint64_t generation = 0;   ///< processes that had this pool, this one included
  uint64_t ready_bytes = 0;  ///< committed, and free
  uint64_t pinned_bytes = 0; ///< of those committed, read by devices by themselves
};

/// Keeps a chunk where it is. Ends with this object; must not outlive the pool.
class chunk_lease {
public:
  chunk_lease() = default;
  chunk_lease(chunk_lease&& other) noexcept { *this = std::move(other); }
  chunk_lease& operator=(chunk_lease&& other) noexcept;
  ~chunk_lease() { release(); }
  void release();

  explicit operator bool() const { return pool_ != nullptr; }
  std::span<const std::byte> bytes() const;
  /// Of the bytes, as recorded when they came.
  checksum sum() const;
  /// Whether devices may read the bytes where they are, by themselves, as long as this lives.
  bool is_pinned() const;
  uint32_t slot() const { return slot_; }

private:
  friend class chunk_pool;
  chunk_lease(chunk_pool* pool, uint32_t slot) : pool_{pool}, slot_{slot} {}
  chunk_pool* pool_ = nullptr;
  uint32_t slot_ = 0;
};

/// Room for a chunk that is on its way. Unless published, it is free again with this object, so it
/// has to live until nothing writes there any more.
class chunk_fill {
public:
  chunk_fill() = default;
  chunk_fill(chunk_fill&& other) noexcept { *this = std::move(other); }
  chunk_fill& operator=(chunk_fill&& other) noexcept;
  ~chunk_fill() { drop(); }
  void drop();

  explicit operator bool() const { return pool_ != nullptr; }
  /// As long as asked for; aligned to 4096.
  std::span<std::byte> room() const;

private:
  friend class chunk_pool;
  chunk_fill(chunk_pool* pool, uint32_t slot, uint32_t length)
      : pool_{pool}, slot_{slot}, length_{length} {}
  chunk_pool* pool_ = nullptr;
  uint32_t slot_ = 0;
  uint32_t length_ = 0;
};

/// Memory for chunks of files that outlives the process. All functions may be called from any
/// thread. Nothing is ever evicted that a lease holds. One process has a pool at a time.
class chunk_pool {
public:
  /// Attaches to what an earlier process left at `path`, or makes an empty pool if there is
  /// nothing, or nothing of this version and size. Reads no chunk, whatever the size. Fails with
  /// `in_use` if a living process has it.
  static caf::expected<std::shared_ptr<chunk_pool>> open(chunk_pool_options options);
  ~chunk_pool();
  chunk_pool(const chunk_pool&) = delete;
  chunk_pool& operator=(const chunk_pool&) = delete;

  uint32_t chunk_bytes() const { return options_.chunk_bytes; }
  uint32_t chunk_count() const { return static_cast<uint32_t>(slots_.size()); }

  /// The chunk if it is held. `used` is when the load that asks began: the chunks of one load have
  /// been used at one moment, and the beginnings of files stay longer than their ends.
  std::optional<chunk_lease> find(const chunk_key& key, instant used);
  /// Whether the chunk is held; says nothing to the policy of eviction.
  bool holds(const chunk_key& key) const;
  /// Which of the chunks would be held after `coming` others had come for a load that begins at
  /// `now`, each at a cost of `reload_seconds`, if nothing else changed: what is leased now stays,
  /// and so does what is worth more than those that come. Those that are being filled are some of
  /// these, and have their room.
  std::vector<bool> would_hold(std::span<const chunk_key> keys, uint64_t coming,
                               double reload_seconds, instant now) const;
  /// Says that a load that began at `used` will find those of the chunks that are held.
  void expect(std::span<const chunk_key> keys, instant used);
  /// The same by content, whatever file it came from; `key` will find it from now on.
  std::optional<chunk_lease> find_content(const checksum& sum, uint64_t length,
                                          const chunk_key& key, instant used);
  /// Room for `length` bytes (at most a chunk); evicts if it must. Nothing when all is leased: try
  /// again when `on_room` is called. Nothing, too, when the machine is out of memory; see
  /// `starved`.
  std::optional<chunk_fill> begin(uint64_t length, instant used);
  /// True once the machine had no memory for a part of the pool, until the next `reserve`: the rest
  /// may never do for those who hold what they load.
  bool starved() const;
  /// Makes a filled chunk known, or throws it away for an equal one that is held already.
  chunk_lease publish(chunk_fill fill, const chunk_key& key, const checksum& sum,
                      double reload_seconds, instant used);
  /// Another lease of the same chunk.
  chunk_lease share(const chunk_lease& lease);
  /// Forgets a chunk whose bytes turned out to be wrong; its room is free when the last lease ends.
  void discard(const chunk_lease& lease);
  /// Forgets all chunks of a file whose bytes turned out to be wrong. Those that belong to another
  /// file as well stay that one's.
  void forget(const checksum& file);

  /// Sets chunks aside for a load that will hold all it reads. False if so many cannot be had
  /// beside those that are set aside already and a few for everybody else.
  bool reserve(uint32_t chunks);
  void unreserve(uint32_t chunks);
  /// Whether `reserve` would set so many aside if nothing else was.
  bool could_reserve(uint32_t chunks) const { return fits(0, chunks); }

  /// Chunks that hold nothing or nothing worth as much as `worth`, in the measure of the options,
  /// and that nobody uses or has set aside.
  uint32_t room_below(double worth, instant now) const;

  /// From now on has the memory of the pool pinned, at most `bytes_max` bytes of it: chunk by
  /// chunk, on a thread of low priority, while nothing is loaded; chunks of most worth first, then
  /// room that is ready. Memory that does not exist yet, and that of chunks shorter than others, is
  /// left out. When `by` fails, that is the end of it: `failed` is told once, on that thread. What
  /// is pinned stays so until the pool ends. Once for a pool.
  void pin(std::shared_ptr<memory_pinner> by, uint64_t bytes_max,
           std::function<void(const caf::error&)> failed);
  /// Whether any of it is pinned.
  bool pins() const;
  /// Between the two something is loaded; several loads may be under way.
  void begin_load();
  void end_load();

  /// Called, on any thread, after room may have come free. One at a time; null = none.
  void on_room(std::function<void()> callback);

  pool_usage usage() const;
  const shared_region& region() const { return region_; }
  /// Where a slot's bytes begin in the region.
  uint64_t region_offset(uint32_t slot) const;

private:
  friend class chunk_lease;
  friend class chunk_fill;
  struct slot_state {
    uint32_t readers = 0;
    bool doomed = false;
    bool touched = false; ///< its pages are in the page tables; of whoever fills it
    bool pinned = false;
    std::vector<uint32_t> entries;
  };
  struct victim {
    uint32_t slot = 0;
    int64_t used_ns = 0;
    double worth = 0;
  };
  struct hash_key {
    size_t operator()(const chunk_key& key) const noexcept {
      return std::hash<checksum>{}(key.file) ^ (key.offset * 0x9e3779b97f4a7c15ull);
    }
  };

  chunk_pool(chunk_pool_options options, shared_region region);
  caf::error attach();
  bool header_fits(const pool_layout::header& head) const;
  void adopt_slots();
  void adopt_entries();
  pool_layout::slot_record& record(uint32_t slot) const { return slot_records_[slot]; }
  std::byte* data(uint32_t slot) const { return region_.data() + region_offset(slot); }

  bool fits(uint32_t reserved, uint32_t chunks) const;
  // With the mutex held:
  chunk_use use_of(uint32_t slot, instant now) const;
  chunk_lease make_lease(uint32_t slot);
  void use(uint32_t slot, instant used);
  void remember(const chunk_key& key, uint32_t slot);
  void forget_entries(uint32_t slot);
  void empty(uint32_t slot);
  std::optional<uint32_t> take_free();
  std::optional<uint32_t> evict(instant now);
  /// The chunks that go first, of those that nobody uses; `count` at most.
  std::vector<victim> least_worth(size_t count, instant now) const;

  void end_filling();
  /// A free slot to be made ready, if there are too few that are and nothing is being filled.
  std::optional<uint32_t> take_unready();

  /// A slot to be pinned, if one is left and nothing is being loaded.
  std::optional<uint32_t> take_unpinned();
  void choose_unpinned();

  /// Without the mutex: the slot belongs to whoever fills it.
  bool commit(uint32_t slot, uint64_t length);
  void touch(uint32_t slot, uint64_t length, bool fresh);
  void keep_ready(const std::stop_token& stop);
  static void run_in_background();
  /// Of a process that ends in order nothing stays but what holds something.
  void give_back_ready();
  /// Fails as the pinner did.
  caf::error keep_pinning(const std::stop_token& stop);
  void unpin();
  bool is_pinned(uint32_t slot) const;
  void end_read(uint32_t slot);
  void end_fill(uint32_t slot);
  void tell_room();

  const chunk_pool_options options_;
  shared_region region_;
  uint64_t data_offset_ = 0;
  pool_layout::header* header_ = nullptr;
  pool_layout::slot_record* slot_records_ = nullptr;
  pool_layout::entry_record* entry_records_ = nullptr;

  mutable std::mutex mutex_;
  std::vector<slot_state> slots_;
  std::vector<uint32_t> barren_; ///< slots that there was no memory for
  std::vector<uint32_t> free_;   ///< slots that hold nothing
  std::vector<uint32_t> free_entries_;
  std::vector<victim> victims_; ///< next to go last; checked again when taken
  std::unordered_map<chunk_key, uint32_t, hash_key> index_; ///< to entries
  std::unordered_map<checksum, uint32_t> contents_;         ///< to slots
  uint32_t reserved_ = 0;
  uint32_t filling_ = 0;
  uint32_t loading_ = 0;
  std::vector<uint32_t> unpinned_; ///< next to be pinned last
  pool_usage counts_;

  std::mutex callback_mutex_;
  std::function<void()> room_callback_;

  std::condition_variable_any unready_; ///< room was taken

  std::shared_ptr<memory_pinner> pinner_;
  uint64_t pinned_bytes_max_ = 0;
  std::condition_variable_any quiet_; ///< nothing is loaded, or there is more to be pinned

  std::jthread making_ready_, pinning_; ///< last: they use the others
};

} // namespace troupe::storage

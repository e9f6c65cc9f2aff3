#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

namespace troupe::engine {

/// Words that were encoded lately. Natural text repeats few words, so nearly every word is found.
/// A call takes one shard for itself from begin to end. Of fixed size: a word evicts the one whose
/// place it needs, so odd input spoils nothing for long.
class word_cache {
public:
  class shard {
  public:
    /// Appends the ids of `word` to `out`, from memory or else by `encode(word, out)`.
    template <class Encode>
    void append(std::string_view word, std::vector<int32_t>& out, Encode encode) {
      if (word.size() > sizeof(slot::word) || word.empty()) {
        encode(word, out);
        return;
      }
      auto& place = slots_[std::hash<std::string_view>{}(word) % slots_.size()];
      if (place.bytes == word.size() && std::memcmp(place.word, word.data(), word.size()) == 0) {
        out.insert(out.end(), place.ids, place.ids + place.count);
        return;
      }
      const auto before = out.size();
      encode(word, out);
      const auto count = out.size() - before;
      if (count > std::size(place.ids))
        return;
      place.bytes = static_cast<uint8_t>(word.size());
      place.count = static_cast<uint8_t>(count);
      std::memcpy(place.word, word.data(), word.size());
      std::copy(out.begin() + static_cast<ptrdiff_t>(before), out.end(), place.ids);
    }

  private:
    friend class word_cache;
    struct alignas(64) slot { // a cache line
      uint8_t bytes = 0;      // 0: empty
      uint8_t count = 0;
      char word[30];
      int32_t ids[8];
    };
    std::mutex lock_;
    std::vector<slot> slots_; // made on first use
  };

  /// A shard for the calling thread, locked as long as `guard` lives: its own of last time, or one
  /// that is free; waits only when more threads encode than there are shards.
  shard& acquire(std::unique_lock<std::mutex>& guard) {
    const auto home = std::hash<std::thread::id>{}(std::this_thread::get_id());
    auto* taken = &shards_[home % shards_.size()];
    for (size_t i = 0; i < shards_.size() && !guard; ++i) {
      auto& one = shards_[(home + i) % shards_.size()];
      guard = std::unique_lock{one.lock_, std::try_to_lock};
      if (guard)
        taken = &one;
    }
    if (!guard)
      guard = std::unique_lock{taken->lock_};
    if (taken->slots_.empty())
      taken->slots_.resize(words_per_shard);
    return *taken;
  }

private:
  static constexpr size_t words_per_shard = 1 << 14; // 1 MiB
  std::array<shard, 8> shards_;
};

} // namespace troupe::engine

#pragma once
#include <array>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

namespace troupe::engine {

/// Words that were encoded before. Natural text repeats few words, so nearly every word is found.
/// Sharded by thread: a call holds one shard's lock from begin to end and rarely waits.
/// Bounded: a full shard takes no more words.
class word_cache {
public:
  static constexpr size_t words_max = 1 << 15;    ///< per shard
  static constexpr size_t word_bytes_max = 64;

  class shard {
  public:
    /// The ids of `word`, or nothing. Valid until the next insert.
    std::optional<std::span<const int32_t>> find(std::string_view word) const {
      const auto found = places_.find(word);
      if (found == places_.end())
        return std::nullopt;
      return std::span{ids_}.subspan(found->second.begin, found->second.size);
    }
    void insert(std::string_view word, std::span<const int32_t> ids) {
      if (places_.size() >= words_max || word.size() > word_bytes_max)
        return;
      places_.emplace(std::string{word}, place{static_cast<uint32_t>(ids_.size()),
                                               static_cast<uint32_t>(ids.size())});
      ids_.insert(ids_.end(), ids.begin(), ids.end());
    }

  private:
    friend class word_cache;
    struct hash {
      using is_transparent = void;
      size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
    };
    struct place {
      uint32_t begin, size;
    };
    std::mutex lock_;
    std::unordered_map<std::string, place, hash, std::equal_to<>> places_;
    std::vector<int32_t> ids_;
  };

  /// The calling thread's shard, locked as long as `guard` lives.
  shard& acquire(std::unique_lock<std::mutex>& guard) {
    const auto at = std::hash<std::thread::id>{}(std::this_thread::get_id()) % shards_.size();
    guard = std::unique_lock{shards_[at].lock_};
    return shards_[at];
  }

private:
  std::array<shard, 8> shards_;
};

} // namespace troupe::engine

#pragma once
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <vector>

#include "base/error.hpp"
#include "storage/disk/disk_file.hpp"
#include "storage/store/range_set.hpp"

namespace troupe::storage {

/// A file on its way from a source to a disk of this machine, for those who want its bytes before
/// all of them have come. The download says what is there, and readers are told: nobody polls.
///
///   begin --came*--> all there --checked--> right --settled--> at its place
///     `------------------- fail -------'
///
/// It stands for one attempt: when the download has to begin this file anew, it fails, and who
/// wants the file then waits for the whole. Any thread may call; callbacks come on any thread, no
/// lock held, once each.
class arrival {
public:
  using told = std::function<void(caf::error)>;

  /// `place` is where the file will lie in the end.
  explicit arrival(std::filesystem::path place) : place_{std::move(place)} {}
  ~arrival();
  arrival(const arrival&) = delete;
  arrival& operator=(const arrival&) = delete;

  const std::filesystem::path& place() const { return place_; }

  // For readers:

  /// Whether a range can be read now; true, too, after a failure, which the read then tells.
  bool has(byte_range range) const;
  /// Calls `then` once all of a range is there, or when it will not come.
  void when_there(byte_range range, told then);
  /// Blocks for the same; `cancelled` when `stop` comes first.
  caf::error wait(byte_range range, const std::stop_token& stop) const;
  /// Calls `then` once the whole has the checksum that the source vouches for, or, if it vouches
  /// for none, once the whole is there; with the error if it turns out otherwise.
  void when_checked(told then);
  /// Calls `then` once the file lies at its place; never if it does not get there.
  void when_settled(std::function<void()> then);
  caf::error why() const; ///< if it failed
  /// Whether another process of this machine fetches the file, so that nothing comes before all
  /// has.
  bool is_elsewhere() const;
  /// The file that the bytes are written to, for reading through the page cache; not before a wait
  /// for any range of it has ended well.
  std::shared_ptr<const disk_file> file() const;
  /// What will tell the finished file from every other, which is known from the beginning. As
  /// `file`.
  file_identity identity() const;

  // For the download:

  /// The bytes will be written to `fd`, which stays the caller's and is as long as the whole file.
  /// `stamp_ns` is the time of modification that the file will get; nothing = it stays as it is.
  caf::error begin(int fd, std::optional<int64_t> stamp_ns, const range_set& there);
  void came(byte_range range);
  /// Another process has to end its attempt before this one can begin.
  void elsewhere();
  void checked();
  void settled();
  void fail(caf::error why);

private:
  struct waiter {
    uint64_t length = 0;
    told then;
  };
  std::vector<told> take_ready(uint64_t offset);
  bool is_there(byte_range range) const;

  const std::filesystem::path place_;
  mutable std::mutex mutex_;
  mutable std::condition_variable_any changed_;
  std::shared_ptr<const disk_file> file_;
  file_identity identity_;
  range_set there_;
  std::multimap<uint64_t, waiter> waiting_; ///< by offset
  std::vector<told> for_check_;
  std::vector<std::function<void()>> for_place_;
  bool checked_ = false, settled_ = false, elsewhere_ = false;
  caf::error why_;
};

/// A file as its source knows it, and its bytes as they come.
struct coming_file {
  source_file file;
  std::shared_ptr<arrival> bytes;
};

/// The weights of one model on their way, beside files that are here already. As `arrival`.
class arriving_model {
public:
  /// A part of a file that somebody will need.
  struct wish {
    std::filesystem::path file; ///< its `place`
    byte_range range;
  };

  arriving_model(std::filesystem::path dir, uint64_t weight_bytes,
                 std::vector<std::shared_ptr<arrival>> files)
      : dir_{std::move(dir)}, weight_bytes_{weight_bytes}, files_{std::move(files)} {}

  /// Where the model will lie, or its GGUF file; what is no weights is there already.
  const std::filesystem::path& dir() const { return dir_; }
  uint64_t weight_bytes() const { return weight_bytes_; }
  /// The file that will lie at `place`, if it is on its way.
  std::shared_ptr<arrival> find(const std::filesystem::path& place) const;
  const std::vector<std::shared_ptr<arrival>>& files() const { return files_; }
  /// By which name the file that will lie at `place` can be opened now, as long as this lives;
  /// empty if it is not on its way. For `checkpoint::open`.
  std::filesystem::path elsewhere(const std::filesystem::path& place) const;
  /// Says in which order the bytes are needed, so that they are fetched in about that order.
  void prefer(const std::vector<wish>& order) const;

  /// Who fetches, as long as somebody does.
  void fetched_by(std::function<void(const std::vector<wish>&)> prefer);
  void fail(const caf::error& why);

private:
  const std::filesystem::path dir_;
  const uint64_t weight_bytes_;
  const std::vector<std::shared_ptr<arrival>> files_;
  mutable std::mutex mutex_;
  std::function<void(const std::vector<wish>&)> prefer_;
};

} // namespace troupe::storage

#include "storage/disk/read_pieces.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

void end(const read_piece& piece, caf::error why) {
  auto& job = *piece.job;
  if (why) {
    const std::lock_guard guard{job.mutex};
    if (!job.why || piece.offset < job.failed_at) {
      job.why = std::move(why);
      job.failed_at = piece.offset;
    }
  }
  // The last one sees what the others wrote: acquire and release in one.
  if (job.pieces_left.fetch_sub(1, std::memory_order_acq_rel) == 1)
    std::exchange(job.done, nullptr)(std::move(job.why));
}

std::string place(const read_piece& piece) {
  return piece.job->file->path().string() + ": at byte " + std::to_string(piece.offset);
}

} // namespace

std::vector<read_piece> cut_read(std::shared_ptr<const disk_file> file, uint64_t offset,
                                 std::span<std::byte> into, read_done done, uint32_t piece_bytes) {
  const auto job = std::make_shared<read_job>();
  job->file = std::move(file);
  job->done = std::move(done);
  std::vector<read_piece> out;
  const auto cut = [&](size_t first, size_t last, bool direct) {
    for (auto at = first; at < last;) {
      const auto length = std::min<size_t>(piece_bytes, last - at);
      out.push_back({job, offset + at, into.data() + at, length, direct});
      at += length;
    }
  };
  const size_t unit = job->file->alignment();
  const auto address = reinterpret_cast<uintptr_t>(into.data());
  const auto agree = unit != 0 && offset % unit == address % unit;
  const auto head = unit == 0 ? 0 : (unit - offset % unit) % unit;
  if (!agree || into.size() < head + unit || job->file->is_cached(offset, into.size())) {
    cut(0, into.size(), false);
  } else {
    const auto tail = head + (into.size() - head) / unit * unit;
    cut(0, head, false);
    cut(head, tail, true);
    cut(tail, into.size(), false);
  }
  if (out.empty())
    out.push_back({job, offset, into.data(), 0, false});
  job->pieces_left = out.size();
  return out;
}

std::optional<read_piece> settle(read_piece piece, ssize_t result) {
  if (result == -EINTR || result == -EAGAIN)
    return piece;
  if (result == -EINVAL && piece.direct) {
    piece.job->file->refuse_direct();
    piece.direct = false;
    return piece;
  }
  if (result < 0) {
    end(piece, caf::make_error(errc::unreadable,
                               place(piece) + " reading failed: " +
                                   std::generic_category().message(static_cast<int>(-result))));
    return std::nullopt;
  }
  if (result == 0 && piece.length != 0) {
    end(piece, caf::make_error(errc::short_read, place(piece) + " the file ends, but " +
                                                     std::to_string(piece.length) +
                                                     " more bytes were expected"));
    return std::nullopt;
  }
  const auto got = static_cast<size_t>(result);
  if (got < piece.length) {
    piece.offset += got;
    piece.into += got;
    piece.length -= got;
    // An end of file inside a block leaves an unaligned rest.
    piece.direct = piece.direct && got % piece.job->file->alignment() == 0;
    return piece;
  }
  end(piece, {});
  return std::nullopt;
}

void fail(const read_piece& piece, caf::error why) { end(piece, std::move(why)); }

caf::expected<std::unique_ptr<disk_reader>> make_disk_reader(disk_reader_options options) {
  options.piece_bytes = std::max(options.piece_bytes / 4096 * 4096, 4096u);
  options.depth = std::clamp(options.depth, 1u, 1024u);
  if (options.backend != disk_backend::threads) {
    if (auto out = make_uring_reader(options))
      return out;
    if (options.backend == disk_backend::io_uring)
      return caf::make_error(errc::unsupported,
                             "this system does not let us use io_uring; use the thread backend");
  }
  return make_thread_reader(options);
}

} // namespace troupe::storage

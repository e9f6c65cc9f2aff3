#include "storage/sources/http_range.hpp"

#include <charconv>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

constexpr std::string_view modified_mark = "modified ";
/// A file that old is not written again within the second that its date stands for.
constexpr int64_t settled_seconds = 60;

std::optional<uint64_t> content_length(const http_head& head) {
  const auto& text = head.field("content-length");
  uint64_t out = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (text.empty() || code != std::errc{} || end != text.data() + text.size() ||
      out > uint64_t{1} << 62)
    return std::nullopt;
  return out;
}

/// Whether an answer contradicts the version that the file had.
bool other_version(const http_head& head, const std::string& version) {
  if (version.starts_with(modified_mark))
    return !head.field("last-modified").empty() &&
           head.field("last-modified") != version.substr(modified_mark.size());
  return !version.empty() && !head.field("etag").empty() && head.field("etag") != version;
}

class range_reader {
public:
  range_reader(const ranged_read& read, const byte_sink& sink) : read_{read}, sink_{sink} {}

  caf::error check(const http_head& head) {
    const auto& file = read_.file;
    if (read_.compare_versions && other_version(head, file.version))
      return changed("its version is another one now");
    if (head.status == 206) {
      const auto got = parse_content_range(head.field("content-range"));
      if (!got)
        return caf::make_error(errc::malformed, read_.what + ": a part without its place (" +
                                                    head.field("content-range") + ")");
      if (got->total && *got->total != file.size_bytes)
        return changed("it has " + std::to_string(*got->total) + " bytes now, not " +
                       std::to_string(file.size_bytes));
      if (got->part.offset != read_.range.offset || got->part.length > read_.range.length)
        return caf::make_error(errc::malformed, read_.what + ": not the part that was asked for");
      return {};
    }
    const auto length = content_length(head);
    if (length && *length != file.size_bytes)
      return changed("it has " + std::to_string(*length) + " bytes now, not " +
                     std::to_string(file.size_bytes));
    if (read_.range.offset != 0)
      return caf::make_error(errc::unsupported,
                             read_.what + ": the server ignores the range that was asked for");
    return {};
  }

  caf::error take(std::span<const std::byte> piece) {
    const auto left = read_.range.length - done_;
    const bool more = piece.size() > left;
    if (more)
      piece = piece.first(static_cast<size_t>(left));
    done_ += piece.size();
    if (auto why = piece.empty() ? caf::error{} : sink_(piece))
      return why;
    if (more) { // a server without ranges goes on to the end of the file
      enough_ = true;
      return caf::make_error(errc::cancelled, "enough");
    }
    return {};
  }

  caf::error outcome(caf::error why) const {
    if (enough_)
      return {};
    if (why == errc::unavailable || why == errc::denied || why == errc::cancelled)
      return caf::make_error(static_cast<errc>(why.code()), read_.what + ": " + describe(why));
    if (why)
      return why;
    if (done_ < read_.range.length)
      return caf::make_error(errc::unavailable, read_.what + ": the answer ended after " +
                                                    std::to_string(done_) + " of " +
                                                    std::to_string(read_.range.length) + " bytes");
    return {};
  }

private:
  caf::error changed(const std::string& how) const {
    return caf::make_error(errc::changed, read_.what + ": the file was changed meanwhile: " + how);
  }

  const ranged_read& read_;
  const byte_sink& sink_;
  uint64_t done_ = 0;
  bool enough_ = false;
};

} // namespace

std::string version_of(const http_head& answer) {
  if (!answer.field("etag").empty())
    return answer.field("etag");
  if (!answer.field("last-modified").empty())
    return std::string{modified_mark} + answer.field("last-modified");
  return {};
}

std::string strong_version_of(const http_head& answer) {
  auto version = version_of(answer);
  if (!version.starts_with(modified_mark))
    return is_strong_etag(version) ? version : std::string{};
  const auto modified = parse_http_date(answer.field("last-modified"));
  const auto asked = parse_http_date(answer.field("date"));
  return modified && asked && *asked - *modified >= settled_seconds ? version : std::string{};
}

bool is_strong_etag(const std::string& version) {
  return version.size() > 2 && version.front() == '"' && version.back() == '"';
}

caf::error stream_range(http_client& over, ranged_read read, const byte_sink& sink,
                        std::stop_token stop) {
  if (read.range.length == 0)
    return {};
  const bool whole = read.range.offset == 0 && read.range.length == read.file.size_bytes;
  if (!whole) {
    read.request.range = read.range;
    if (read.compare_versions && is_strong_etag(read.file.version))
      read.request.headers.push_back("If-Range: " + read.file.version);
  }
  read.request.headers.emplace_back("Accept-Encoding: identity"); // offsets are of the file itself
  range_reader reader{read, sink};
  const auto head = over.perform(
      read.request, [&](const http_head& x) { return reader.check(x); },
      [&](std::span<const std::byte> piece) { return reader.take(piece); }, std::move(stop));
  if (!head)
    return reader.outcome(head.error());
  if (!head->ok())
    return error_of(*head, read.what, read.hint);
  return reader.outcome({});
}

caf::expected<source_file> stat_url(http_client& over, const http_request& request,
                                    const std::string& path, const std::string& name,
                                    const std::string& what, const std::string& hint,
                                    std::stop_token stop) {
  auto ask = request;
  ask.method = "HEAD";
  ask.headers.emplace_back("Accept-Encoding: identity");
  auto head = over.fetch(ask, stop);
  if (!head)
    return caf::make_error(static_cast<errc>(head.error().code()),
                           what + ": " + describe(head.error()));
  source_file out;
  out.path = path;
  const bool answered = head->ok();
  const auto length = answered ? content_length(*head) : std::nullopt;
  if (!answered && head->status != 403 && head->status != 405 && head->status != 501)
    return error_of(*head, what, hint);
  const auto name_versions = [&](const http_head& answer) {
    out.version = version_of(answer);
    if (const auto strong = strong_version_of(answer); !strong.empty())
      out.addressed = name + " " + strong;
  };
  if (answered)
    name_versions(*head);
  out.size_bytes = length.value_or(0);
  if (length && (*length == 0 || head->field("accept-ranges") == "bytes"))
    return out;
  // No HEAD here, no length, or no word about ranges: the first byte tells.
  ask.method = "GET";
  ask.range = byte_range{0, 1};
  http_head first;
  const auto enough = [&](const http_head& x) -> caf::error {
    first = x;
    return x.status == 206 ? caf::error{} : caf::make_error(errc::cancelled, "enough");
  };
  const auto got = over.perform(
      ask, enough, [](auto) { return caf::error{}; }, stop);
  if (!got && first.status == 0)
    return caf::make_error(static_cast<errc>(got.error().code()),
                           what + ": " + describe(got.error()));
  if (got && !got->ok() && got->status != 416)
    return error_of(*got, what, hint);
  const auto place = parse_content_range(first.field("content-range"));
  out.ranged = first.status == 206 && place && place->part.offset == 0 && place->total;
  if (out.version.empty())
    name_versions(first);
  if (length)
    return out;
  const auto total = out.ranged ? place->total : content_length(first);
  if (!total && !(got && got->status == 416)) // 416: nothing in it
    return caf::make_error(errc::unsupported, what + ": the server does not say how long it is");
  out.size_bytes = total.value_or(0);
  return out;
}

} // namespace troupe::storage

// Whatever servers, files and people write: the first byte chooses the parser of the rest.
#include <cstdlib>
#include <string_view>

#include "storage/sources/http.hpp"
#include "storage/sources/hub_source.hpp"
#include "storage/sources/location.hpp"
#include "storage/sources/s3_credentials.hpp"
#include "storage/sources/s3_listing.hpp"
#include "storage/store/journal.hpp"
#include "storage/store/manifest.hpp"

namespace {

using namespace troupe::storage;

void expect(bool truth) {
  if (!truth)
    std::abort();
}

void check_location(std::string_view text) {
  const auto once = parse_location(text);
  if (!once)
    return;
  const auto twice = parse_location(once->text);
  expect(twice && twice->text == once->text && twice->kind == once->kind);
  expect(twice->gguf.tag == once->gguf.tag && twice->gguf.file == once->gguf.file);
  expect(once->gguf.file.empty() || is_inner_path(once->gguf.file));
  if (once->kind == location_kind::s3)
    expect(once->prefix.empty() || is_inner_path(once->prefix));
  if (once->kind == location_kind::hub)
    expect(is_inner_path(once->repository) && is_inner_path(once->revision) &&
           twice->repository == once->repository && twice->revision == once->revision);
}

void check_hub(std::string_view text) {
  const auto listing = parse_hub_listing(text, "fuzz");
  if (listing)
    for (const auto& file : listing->files)
      expect(is_inner_path(file.path));
}

void check_journal(std::string_view text) {
  const journal_subject subject{1000, "v", "b"};
  const auto content = parse_journal(text, subject);
  expect(content.done.covered() <= 1000);
  expect(!content.verified || content.done.covered() == 1000);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0)
    return 0;
  const std::string_view text{reinterpret_cast<const char*>(data) + 1, size - 1};
  switch (data[0]) {
  case 'l':
    check_location(text);
    break;
  case 'h':
    check_hub(text);
    break;
  case 'j':
    check_journal(text);
    break;
  case 'x':
    static_cast<void>(parse_s3_listing(text, "fuzz"));
    static_cast<void>(s3_refusal(text));
    break;
  case 'p':
    static_cast<void>(parse_aws_profiles(text));
    static_cast<void>(parse_instance_credentials(text, "fuzz"));
    break;
  case 'm':
    for (const auto& [path, file] : parse_manifest(text).files)
      expect(is_inner_path(path));
    break;
  default:
    static_cast<void>(parse_content_range(text));
    static_cast<void>(parse_retry_after(text));
  }
  return 0;
}

#include "storage/store/manifest.hpp"

#include <nlohmann/json.hpp>
#include <simdjson.h>

#include "storage/model_dir.hpp"
#include "storage/store/files.hpp"

namespace troupe::storage {

namespace {

constexpr uint64_t manifest_bytes_max = uint64_t{64} << 20;

} // namespace

std::filesystem::path manifest_file(const std::filesystem::path& model_dir) {
  return model_dir / ".troupe" / "source.json";
}

bool store_manifest::is_as_published(const std::filesystem::path& model_dir,
                                     const std::string& path) const {
  const auto at = modified_ns.find(path);
  return at != modified_ns.end() && at->second == last_write_ns(model_dir / path);
}

store_manifest parse_manifest(std::string_view json) {
  simdjson::dom::parser parser;
  simdjson::dom::object root, files;
  std::string_view text;
  store_manifest out;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS ||
      root["source"].get(text) != simdjson::SUCCESS)
    return out;
  out.source = text;
  if (root["files"].get(files) != simdjson::SUCCESS)
    return out;
  for (const auto [path, value] : files) {
    simdjson::dom::object entry;
    source_file file;
    if (!is_inner_path(path) || value.get(entry) != simdjson::SUCCESS ||
        entry["size"].get(file.size_bytes) != simdjson::SUCCESS)
      continue;
    file.path = path;
    if (entry["version"].get(text) == simdjson::SUCCESS)
      file.version = text;
    if (entry["sha256"].get(text) == simdjson::SUCCESS)
      file.sha256 = text;
    if (entry["addressed"].get(text) == simdjson::SUCCESS)
      file.addressed = text;
    if (int64_t modified = 0; entry["modified_ns"].get(modified) == simdjson::SUCCESS)
      out.modified_ns[file.path] = modified;
    out.files[file.path] = std::move(file);
  }
  return out;
}

store_manifest read_manifest(const std::filesystem::path& model_dir) {
  return parse_manifest(read_small_file(manifest_file(model_dir), manifest_bytes_max));
}

caf::error write_manifest(const std::filesystem::path& model_dir, const store_manifest& what) {
  nlohmann::ordered_json root{{"source", what.source}, {"files", nlohmann::json::object()}};
  for (const auto& [path, file] : what.files) {
    auto& entry = root["files"][path];
    entry["size"] = file.size_bytes;
    entry["version"] = file.version;
    if (!file.sha256.empty())
      entry["sha256"] = file.sha256;
    if (!file.addressed.empty())
      entry["addressed"] = file.addressed;
    if (const auto at = what.modified_ns.find(path); at != what.modified_ns.end())
      entry["modified_ns"] = at->second;
  }
  constexpr auto replace = nlohmann::json::error_handler_t::replace;
  return replace_file(manifest_file(model_dir), root.dump(1, ' ', false, replace) + "\n");
}

} // namespace troupe::storage

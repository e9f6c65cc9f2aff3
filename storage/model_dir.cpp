#include "storage/model_dir.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include <simdjson.h>

#include "storage/gguf_files.hpp"
#include "storage/mapped_file.hpp"
#include "storage/safetensors.hpp"
#include "storage/shard_index.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t config_bytes_max = uint64_t{4} << 20;
constexpr uint64_t lfs_pointer_bytes_max = 1024;

/// What stands in a directory, as far as it matters here.
struct listing {
  bool config = false;
  bool single = false;
  bool index = false;
  bool adapter = false;
  bool pipeline = false;
  std::string other_weights;       ///< a weight file of a format that is not served
  std::vector<std::string> shards; ///< model-00001-of-0000N.safetensors
  std::set<fs::path> gguf;         ///< the first files of GGUF models
};

listing list(const fs::path& dir) {
  listing out;
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(dir.c_str()), ::closedir);
  if (!handle)
    return out;
  while (const dirent* entry = ::readdir(handle.get())) {
    const std::string_view name = entry->d_name;
    if (name == "config.json")
      out.config = true;
    else if (name == "model.safetensors")
      out.single = true;
    else if (name == "model.safetensors.index.json")
      out.index = true;
    else if (name == "adapter_config.json")
      out.adapter = true;
    else if (name == "model_index.json")
      out.pipeline = true;
    else if (name.starts_with("model-") && name.ends_with(".safetensors"))
      out.shards.emplace_back(name);
    else if (name.ends_with(".gguf"))
      out.gguf.insert(gguf_parts(dir / name).front());
    else if (name.starts_with("pytorch_model"))
      out.other_weights = name;
  }
  return out;
}

/// N of "model-00001-of-0000N.safetensors".
std::optional<size_t> shard_count(std::string_view name) {
  const auto at = name.find("-of-");
  if (at == std::string_view::npos)
    return std::nullopt;
  size_t count = 0;
  const char* first = name.data() + at + 4;
  const auto [end, code] = std::from_chars(first, name.data() + name.size(), count);
  if (code != std::errc{} || std::string_view(end, name.data() + name.size()) != ".safetensors")
    return std::nullopt;
  return count;
}

/// The shards that must be there. Their usual names say how many there are, which saves reading an
/// index of megabytes; only unusual names make it necessary.
std::vector<std::string> expected_shards(const fs::path& dir, listing& found, std::string& why) {
  if (!found.shards.empty()) {
    const auto count = shard_count(found.shards.front());
    const bool alike = count && std::all_of(found.shards.begin(), found.shards.end(),
                                            [&](const auto& x) { return shard_count(x) == count; });
    if (alike && *count == found.shards.size())
      return std::move(found.shards);
    if (alike && *count > found.shards.size()) {
      why = std::to_string(*count - found.shards.size()) + " of " + std::to_string(*count) +
            " weight files are missing; finish the download";
      return {};
    }
  }
  const auto file = dir / "model.safetensors.index.json";
  auto index = parse_shard_index(read_small_file(file, shard_index_bytes_max), file.string());
  std::vector<std::string> out;
  if (!index)
    why = describe(index.error());
  else
    for (auto& [name, tensors] : *index)
      out.push_back(name);
  return out;
}

/// Adds size and time of one weight file; says what is wrong with it, or nothing.
std::string add_weights(const fs::path& file, model_dir& out) {
  struct stat info {};
  const auto name = file.filename().string();
  if (::stat(file.c_str(), &info) != 0)
    return name + " is missing or cannot be reached; finish the download";
  if (!S_ISREG(info.st_mode))
    return name + " is not a regular file";
  const auto bytes = static_cast<uint64_t>(info.st_size);
  if (bytes == 0)
    return name + " is empty; download it again";
  if (bytes <= lfs_pointer_bytes_max && is_lfs_pointer(read_small_file(file, bytes)))
    return name + " is a Git LFS pointer, the weights were not downloaded (run `git lfs pull`)";
  out.weight_bytes += bytes;
  out.modified =
      std::max(out.modified, std::chrono::sys_seconds{std::chrono::seconds{info.st_mtim.tv_sec}});
  return {};
}

std::string add_all_weights(const fs::path& dir, listing& found, model_dir& out) {
  if (found.single)
    return add_weights(dir / "model.safetensors", out);
  std::string why;
  for (const auto& name : expected_shards(dir, found, why))
    if (auto wrong = add_weights(dir / name, out); !wrong.empty())
      return wrong;
  return why;
}

/// Reads `architectures`; says what is wrong with config.json, or nothing.
std::string read_config(const fs::path& file, model_dir& out, bool& names_a_model) {
  namespace dom = simdjson::dom;
  const auto text = read_small_file(file, config_bytes_max);
  if (text.empty())
    return "config.json is empty, larger than 4 MiB or cannot be read";
  dom::parser parser;
  dom::object top;
  if (const auto code = parser.parse(text).get(top))
    return std::string{"config.json is not a JSON object: "} + simdjson::error_message(code);
  std::string_view type;
  names_a_model = top["model_type"].get(type) == simdjson::SUCCESS;
  dom::array names;
  std::string_view first;
  if (top["architectures"].get(names) == simdjson::SUCCESS &&
      names.at(0).get(first) == simdjson::SUCCESS) {
    out.architecture = first;
    names_a_model = true;
  }
  return {};
}

} // namespace

std::string read_small_file(const fs::path& file, uint64_t bytes_max) {
  const auto opened = mapped_file::open(file);
  if (!opened || opened->size_bytes() > bytes_max)
    return {};
  std::string text(opened->size_bytes(), '\0');
  if (opened->read(0, std::as_writable_bytes(std::span{text})))
    return {};
  return text;
}

model_dir inspect_model_dir(const fs::path& dir) {
  auto found = list(dir);
  model_dir out;
  out.gguf.assign(found.gguf.begin(), found.gguf.end());
  const auto unusable = [&](std::string why) {
    out.kind = model_dir::verdict::unusable;
    out.why = std::move(why);
    return out;
  };
  const bool weights = found.single || found.index || !found.shards.empty();
  if (found.pipeline)
    return unusable("a diffusion pipeline, not a language model");
  if (found.adapter && !weights)
    return unusable("an adapter, not a model: serve it together with its base model");
  if (!weights && !out.gguf.empty())
    return out; // what else stands there describes the same model
  if (!found.config && !weights)
    return found.other_weights.empty() ? out
                                       : unusable("only " + found.other_weights +
                                                  ", a weight format that is not served; "
                                                  "convert it to safetensors");
  if (!found.config)
    return unusable("weights but no config.json");
  bool names_a_model = false;
  auto wrong = read_config(dir / "config.json", out, names_a_model);
  if (!weights) {
    if (!found.other_weights.empty())
      return unusable("only " + found.other_weights +
                      ", a weight format that is not served; "
                      "convert it to safetensors");
    // Many programs have a config.json.
    return names_a_model ? unusable("config.json but no weights; finish the download") : out;
  }
  if (!wrong.empty())
    return unusable(wrong);
  if (!found.single && !found.index)
    return unusable("weight files but no model.safetensors.index.json; finish the download");
  if (wrong = add_all_weights(dir, found, out); !wrong.empty())
    return unusable(wrong);
  out.kind = model_dir::verdict::model;
  return out;
}

model_dir inspect_gguf(const fs::path& path) {
  model_dir out;
  const auto parts = gguf_parts(path);
  size_t missing = 0;
  for (const auto& part : parts) {
    std::error_code ignored;
    if (parts.size() > 1 && !fs::exists(part, ignored))
      ++missing;
    else if (out.why = add_weights(part, out); !out.why.empty())
      break;
  }
  if (missing > 0)
    out.why = std::to_string(missing) + " of " + std::to_string(parts.size()) +
              " files are missing; finish the download";
  if (out.why.empty()) {
    const auto file = mapped_file::open(parts.front());
    if (!file)
      out.why = describe(file.error());
    else if (out.architecture = gguf_architecture(*file); out.architecture == "clip")
      out.why = "the part of a model that sees images, not a language model";
  }
  out.kind = out.why.empty() ? model_dir::verdict::model : model_dir::verdict::unusable;
  return out;
}

sole_model find_sole_model(const fs::path& dir, const gguf_choice& meant) {
  const auto whole = [](const fs::path& at, model_dir look) {
    return look.kind == model_dir::verdict::model ? sole_model{at, std::move(look)} : sole_model{};
  };
  std::error_code failed;
  if (is_gguf(dir) && fs::is_regular_file(dir, failed)) {
    const auto first = gguf_parts(dir).front();
    return whole(first, inspect_gguf(first));
  }
  if (meant.empty())
    if (auto look = inspect_model_dir(dir); look.kind != model_dir::verdict::unrelated)
      return whole(dir, std::move(look));
  const auto file = choose_gguf(gguf_files_below(dir), meant, dir.string());
  return file ? whole(dir / *file, inspect_gguf(dir / *file)) : sole_model{};
}

fs::path model_root(const fs::path& model) {
  if (!is_gguf(model))
    return model;
  auto dir = model.parent_path();
  std::error_code failed;
  for (int up = 0; up < 3 && !dir.empty(); ++up, dir = dir.parent_path())
    if (dir.parent_path().filename() == "snapshots" || fs::is_directory(dir / ".troupe", failed))
      return dir;
  return model.parent_path();
}

} // namespace troupe::storage

#include "storage/store/file_selection.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "storage/errors.hpp"
#include "storage/gguf_files.hpp"

namespace troupe::storage {

namespace {

constexpr std::array<std::string_view, 12> weight_endings = {
    ".safetensors", ".gguf", ".bin",     ".pt", ".pth",       ".ckpt",
    ".h5",          ".onnx", ".msgpack", ".ot", ".onnx_data", ".nemo"};
constexpr std::array<std::string_view, 7> idle_endings = {".png", ".jpg",  ".jpeg", ".gif",
                                                          ".svg", ".webp", ".mp4"};

template <class Endings>
bool ends_with_any(std::string_view path, const Endings& endings) {
  return std::ranges::any_of(endings, [&](auto x) { return path.ends_with(x); });
}

bool keeps(const source_file& file, std::string_view include, std::string_view format) {
  const bool weights = is_weight_file(file.path);
  if (weights && !include.empty())
    return matches_glob(file.path, include);
  if (file.path.find('/') != std::string::npos)
    return false;
  return weights ? file.path.ends_with(format) : !ends_with_any(file.path, idle_endings);
}

/// How many GGUF models stand at the top; the parts of one are one.
size_t gguf_models(const std::vector<source_file>& files) {
  std::set<std::filesystem::path> firsts;
  for (const auto& file : files)
    if (is_gguf(file.path) && file.path.find('/') == std::string::npos)
      firsts.insert(gguf_parts(file.path).front());
  return firsts.size();
}

std::string name_some(const std::vector<source_file>& files, std::string_view ending) {
  std::string out;
  size_t named = 0;
  for (const auto& file : files)
    if (file.path.ends_with(ending) && ++named <= 8)
      out += "\n  " + file.path;
  return named > 8 ? out + "\n  and " + std::to_string(named - 8) + " more" : out;
}

} // namespace

bool is_weight_file(std::string_view path) { return ends_with_any(path, weight_endings); }

bool matches_glob(std::string_view text, std::string_view pattern) {
  size_t t = 0, p = 0, star = std::string_view::npos, from = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || (pattern[p] != '*' && pattern[p] == text[t]))) {
      ++t;
      ++p;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      from = t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++from; // the star takes one character more
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*')
    ++p;
  return p == pattern.size();
}

caf::expected<std::vector<source_file>>
files_to_serve(std::vector<source_file> all, std::string_view include, const std::string& origin) {
  const auto top = [&](std::string_view ending) {
    return std::ranges::count_if(all, [&](const source_file& x) {
      return x.path.ends_with(ending) && x.path.find('/') == std::string::npos;
    });
  };
  const bool safetensors = top(".safetensors") > 0;
  if (include.empty() && !safetensors && gguf_models(all) > 1)
    return caf::make_error(
        errc::unsupported,
        origin + ": holds several GGUF files; choose with `troupe pull ... --include GLOB`:" +
            name_some(all, ".gguf"));
  std::erase_if(all, [&](const source_file& x) {
    return !keeps(x, include, safetensors ? ".safetensors" : ".gguf");
  });
  if (std::ranges::none_of(all, [](const auto& x) { return is_weight_file(x.path); }))
    return caf::make_error(errc::unsupported,
                           origin + (include.empty()
                                         ? ": has no weights in safetensors or GGUF"
                                         : ": none of its weights match " + std::string{include}));
  return all;
}

} // namespace troupe::storage

#include "storage/store/file_selection.hpp"

#include <algorithm>
#include <array>
#include <filesystem>

#include "storage/errors.hpp"
#include "storage/gguf_files.hpp"

namespace troupe::storage {

namespace {

constexpr std::array<std::string_view, 12> weight_endings = {
    ".safetensors", ".gguf", ".bin",     ".pt", ".pth",       ".ckpt",
    ".h5",          ".onnx", ".msgpack", ".ot", ".onnx_data", ".nemo"};
constexpr std::array<std::string_view, 7> idle_endings = {".png", ".jpg",  ".jpeg", ".gif",
                                                          ".svg", ".webp", ".mp4"};

constexpr uint64_t small_text_bytes_max = uint64_t{1} << 20;

template <class Endings>
bool ends_with_any(std::string_view path, const Endings& endings) {
  return std::ranges::any_of(endings, [&](auto x) { return path.ends_with(x); });
}

bool is_top(const source_file& file) { return file.path.find('/') == std::string::npos; }

/// What people read about a model. A GGUF file says itself all that a program needs.
bool is_small_text(const source_file& file) {
  constexpr std::array<std::string_view, 4> texts = {".json", ".jinja", ".md", ".txt"};
  return file.size_bytes <= small_text_bytes_max &&
         (ends_with_any(file.path, texts) || file.path.starts_with("LICENSE"));
}

/// Leaves one GGUF model, all its parts, and what is written about it.
caf::expected<std::vector<source_file>>
gguf_to_serve(std::vector<source_file> all, const std::string& origin, const gguf_choice& meant) {
  std::vector<std::string> paths;
  for (const auto& file : all)
    paths.push_back(file.path);
  const auto first = choose_gguf(paths, meant, origin);
  if (!first)
    return first.error();
  const auto parts = gguf_parts(*first);
  const auto is_part = [&](const source_file& x) {
    return std::ranges::find(parts, std::filesystem::path{x.path}) != parts.end();
  };
  std::erase_if(all, [&](const source_file& x) {
    return is_weight_file(x.path) ? !is_part(x) : !is_top(x) || !is_small_text(x);
  });
  const auto here = static_cast<size_t>(std::ranges::count_if(all, is_part));
  if (here < parts.size())
    return caf::make_error(errc::unsupported, origin + ": has only " + std::to_string(here) +
                                                  " of the " + std::to_string(parts.size()) +
                                                  " files of " + *first);
  return all;
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

caf::expected<std::vector<source_file>> files_to_serve(std::vector<source_file> all,
                                                       std::string_view include,
                                                       const std::string& origin,
                                                       const gguf_choice& meant) {
  const auto any = [&](std::string_view ending, bool below) {
    return std::ranges::any_of(
        all, [&](const auto& x) { return x.path.ends_with(ending) && (below || is_top(x)); });
  };
  const bool safetensors = any(".safetensors", false);
  if (include.empty() && (!meant.empty() || (!safetensors && any(".gguf", true))))
    return gguf_to_serve(std::move(all), origin, meant);
  std::erase_if(all, [&](const source_file& x) {
    if (!is_weight_file(x.path))
      return !is_top(x) || ends_with_any(x.path, idle_endings);
    return include.empty() ? !is_top(x) || !x.path.ends_with(".safetensors")
                           : !matches_glob(x.path, include);
  });
  if (std::ranges::none_of(all, [](const auto& x) { return is_weight_file(x.path); }))
    return caf::make_error(errc::unsupported,
                           origin + (include.empty()
                                         ? ": has no weights in safetensors or GGUF"
                                         : ": none of its weights match " + std::string{include}));
  return all;
}

} // namespace troupe::storage

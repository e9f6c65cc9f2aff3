#include "storage/gguf_choice.hpp"

#include <algorithm>
#include <system_error>

#include "base/text.hpp"
#include "storage/errors.hpp"
#include "storage/gguf_files.hpp"
#include "storage/shown.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

constexpr size_t names_shown = 40;
constexpr int depth_max = 2;

bool is_alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// Whether `word` stands in `text`, both in small letters, between what `separates` words.
template <class Separator>
bool has_word(std::string_view text, std::string_view word, Separator separates) {
  for (size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const auto end = at + word.size();
    if ((at == 0 || separates(text[at - 1], true)) &&
        (end == text.size() || separates(text[end], false)))
      return true;
  }
  return false;
}

std::string_view last_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

std::string_view directories(std::string_view path) {
  return path.substr(0, path.size() - last_name(path).size());
}

/// Of a model in several files, the first. No part of the path is changed but the last.
std::string first_part(const std::string& path) {
  return gguf_parts(path).front().generic_string();
}

std::vector<std::string> models_of(const std::vector<std::string>& paths) {
  std::vector<std::string> out;
  for (const auto& path : paths)
    if (is_gguf(path) && !is_gguf_companion(path))
      out.push_back(first_part(path));
  std::ranges::sort(out);
  const auto twice = std::ranges::unique(out);
  out.erase(twice.begin(), twice.end());
  return out;
}

/// The models in that quantization: by their files' names, else by those of directories.
std::vector<std::string> tagged(const std::vector<std::string>& models, const std::string& tag) {
  std::vector<std::string> out;
  for (const auto& path : models)
    if (names_quantization(last_name(path), tag))
      out.push_back(path);
  if (out.empty())
    for (const auto& path : models)
      if (names_quantization(directories(path), tag))
        out.push_back(path);
  // "UD-" marks a second mixture of the same quantization; who means that one says so.
  if (out.size() > 1)
    std::erase_if(out, [&](const std::string& path) {
      return names_quantization(last_name(path), "UD-" + tag);
    });
  return out;
}

std::string list_of(const std::vector<std::string>& paths) {
  std::string out;
  for (size_t i = 0; i < std::min(paths.size(), names_shown); ++i)
    out += "\n  " + std::string{paths[i].size() > 300 ? shown(paths[i]) : paths[i]};
  if (paths.size() > names_shown)
    out += "\n  and " + std::to_string(paths.size() - names_shown) + " more";
  return out;
}

caf::error several(const std::string& origin, const std::string& what,
                   const std::vector<std::string>& paths) {
  const std::string how = origin.starts_with("hf://")
                              ? "say which by its quantization (hf://org/name:Q5_K_M) or its file "
                                "(hf://org/name/FILE.gguf)"
                              : "name the file itself";
  return caf::make_error(errc::unsupported, origin + ": holds several GGUF models" + what + "; " +
                                                how + ":" + list_of(paths));
}

} // namespace

bool names_quantization(std::string_view name, std::string_view tag) {
  // "tiny_Q8_0" is in Q8_0, but "Q4_K_M" not in Q4_K.
  return !tag.empty() && has_word(ascii_lower(name), ascii_lower(tag), [](char c, bool before) {
    return !is_alnum(c) && (before || c != '_');
  });
}

bool is_gguf_companion(std::string_view path) {
  const auto name = ascii_lower(last_name(path));
  const auto separates = [](char c, bool) { return !is_alnum(c); };
  return has_word(name, "mmproj", separates) || has_word(name, "imatrix", separates);
}

caf::expected<std::string> choose_gguf(const std::vector<std::string>& paths,
                                       const gguf_choice& meant, const std::string& origin) {
  auto models = models_of(paths);
  if (!meant.file.empty()) {
    const auto first = first_part(meant.file);
    if (std::ranges::find(paths, first) != paths.end())
      return first;
    return caf::make_error(errc::not_found, origin + ": has no file " + first +
                                                (models.empty() ? "" : "; there are") +
                                                list_of(models));
  }
  if (models.empty())
    return caf::make_error(errc::unsupported, origin + ": has no GGUF files");
  if (!meant.tag.empty()) {
    const auto found = tagged(models, meant.tag);
    if (found.size() == 1)
      return found.front();
    if (!found.empty())
      return several(origin, " in " + meant.tag, found);
    return caf::make_error(errc::not_found, origin + ": has no GGUF file in " + meant.tag +
                                                "; there are" + list_of(models));
  }
  const auto all = models;
  if (std::ranges::any_of(models, [](const auto& x) { return directories(x).empty(); }))
    std::erase_if(models, [](const auto& x) { return !directories(x).empty(); });
  if (models.size() == 1)
    return models.front();
  for (const char* usual : {"Q4_K_M", "Q8_0"})
    if (const auto found = tagged(models, usual); found.size() == 1)
      return found.front();
  return several(origin, ", and not one of them in Q4_K_M or Q8_0", all);
}

std::vector<std::string> gguf_files_below(const fs::path& dir) {
  std::vector<std::string> out;
  std::error_code failed;
  for (fs::recursive_directory_iterator it(dir, failed), end; !failed && it != end;
       it.increment(failed)) {
    const auto name = it->path().filename().string();
    std::error_code ignored;
    if (name.starts_with('.') || it.depth() >= depth_max)
      it.disable_recursion_pending();
    if (!name.starts_with('.') && is_gguf(it->path()) && it->is_regular_file(ignored))
      out.push_back(it->path().lexically_relative(dir).generic_string());
  }
  std::ranges::sort(out);
  return out;
}

} // namespace troupe::storage

#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace troupe::storage {

/// Which of several GGUF models is meant. Neither = nobody said.
struct gguf_choice {
  std::string tag;  ///< a quantization as files are named by it: "Q4_K_M", in any case
  std::string file; ///< the path of a model's file, '/' between names
  bool empty() const { return tag.empty() && file.empty(); }
};

/// Whether `tag` is a word of `name`, in any case: "Q4_K" is none of "m-Q4_K_M.gguf".
bool names_quantization(std::string_view name, std::string_view tag);

/// Files in GGUF that are no model of their own: what sees images (mmproj), importance matrices.
bool is_gguf_companion(std::string_view path);

/// The model that is meant among `paths`, which may name files of any kind: the path of its first
/// file. Companions count only if they are named. If nobody said, those in subdirectories count
/// only where nothing stands above them; of several it is the one in Q4_K_M, else in Q8_0, as
/// llama.cpp and Ollama have it. Fails with `not_found` or `unsupported`, naming what there is;
/// `origin` begins the message.
caf::expected<std::string> choose_gguf(const std::vector<std::string>& paths,
                                       const gguf_choice& meant, const std::string& origin);

/// The paths of GGUF files in `dir` and up to two levels below it.
std::vector<std::string> gguf_files_below(const std::filesystem::path& dir);

} // namespace troupe::storage

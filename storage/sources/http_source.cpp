#include "storage/sources/http_source.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "storage/errors.hpp"
#include "storage/shard_index.hpp"
#include "storage/sources/http_range.hpp"

namespace troupe::storage {

namespace {

constexpr size_t askers_max = 8;
constexpr std::string_view index_name = "model.safetensors.index.json";

constexpr std::array<std::string_view, 14> usual_files = {"README.md",
                                                          "added_tokens.json",
                                                          "chat_template.jinja",
                                                          "chat_template.json",
                                                          "config.json",
                                                          "generation_config.json",
                                                          "merges.txt",
                                                          "preprocessor_config.json",
                                                          "quantize_config.json",
                                                          "special_tokens_map.json",
                                                          "tokenizer.json",
                                                          "tokenizer.model",
                                                          "tokenizer_config.json",
                                                          "vocab.json"};

class http_source final : public source {
public:
  http_source(const location& from, std::shared_ptr<http_client> over)
      : name_{from.text}, root_{from.url}, credentials_{from.credentials}, over_{std::move(over)} {
    if (name_.ends_with(".safetensors") || name_.ends_with(".gguf")) {
      const auto slash = root_.rfind('/');
      only_ = percent_decode(root_.substr(slash + 1));
      root_.resize(slash);
    }
  }

  const std::string& name() const override { return name_; }

  caf::expected<source_file> stat(const std::string& path, std::stop_token stop) override {
    if (!is_inner_path(path))
      return caf::make_error(errc::malformed, name_ + ": '" + path + "' is not a path below it");
    return stat_url(*over_, request_for(path), path, name_ + " " + path, what(path), hint(),
                    std::move(stop));
  }

  caf::expected<std::vector<source_file>> list(std::stop_token stop) override {
    std::vector<source_file> out;
    if (!only_.empty()) {
      auto file = stat(only_, stop);
      if (!file)
        return std::move(file.error());
      out.push_back(std::move(*file));
      return out;
    }
    std::vector<std::string> names(usual_files.begin(), usual_files.end());
    if (auto why = add_all(names, out, stop))
      return why;
    if (auto why = add_weights(out, stop))
      return why;
    std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
    return out;
  }

  caf::error stream(const source_file& file, byte_range range, const byte_sink& sink,
                    std::stop_token stop) override {
    if (!is_inner_path(file.path))
      return caf::make_error(errc::malformed, name_ + ": not a path below it: " + file.path);
    return stream_range(*over_,
                        {request_for(file.path), file, range, true, what(file.path), hint()}, sink,
                        std::move(stop));
  }

private:
  http_request request_for(const std::string& path) const {
    return {.url = root_ + "/" + percent_encode(path, true), .credentials = credentials_};
  }
  std::string what(const std::string& path) const { return "fetching " + path + " from " + name_; }
  static std::string hint() {
    return "credentials may stand in the URL: https://user:password@host";
  }

  /// Asks for many files at once, as each answer is a round trip away. config.json has to be there.
  caf::error add_all(const std::vector<std::string>& paths, std::vector<source_file>& out,
                     const std::stop_token& stop, bool optional = true) {
    std::vector<caf::expected<source_file>> answers(paths.size(), caf::error{});
    std::atomic<size_t> next = 0;
    const auto work = [&] {
      for (size_t i = next++; i < paths.size(); i = next++)
        answers[i] = stat(paths[i], stop);
    };
    {
      std::vector<std::jthread> askers;
      for (size_t i = 0; i < std::min(paths.size(), askers_max); ++i)
        askers.emplace_back(work);
    }
    for (size_t i = 0; i < paths.size(); ++i) {
      if (answers[i])
        out.push_back(std::move(*answers[i]));
      else if (!optional || paths[i] == "config.json" || answers[i].error() != errc::not_found)
        return std::move(answers[i].error());
    }
    return {};
  }

  caf::error add_weights(std::vector<source_file>& out, const std::stop_token& stop) {
    auto index = stat(std::string{index_name}, stop);
    if (!index && index.error() == errc::not_found)
      return add_all({"model.safetensors"}, out, stop, false);
    if (!index)
      return std::move(index.error());
    if (index->size_bytes > shard_index_bytes_max)
      return caf::make_error(errc::malformed, name_ + ": its shard index is too long");
    std::string text(index->size_bytes, '\0');
    if (auto why = read(*index, 0, std::as_writable_bytes(std::span{text}), stop))
      return why;
    const auto shards = parse_shard_index(text, name_ + "/" + std::string{index_name});
    if (!shards)
      return shards.error();
    out.push_back(std::move(*index));
    std::vector<std::string> names;
    for (const auto& [shard, tensors] : *shards)
      names.push_back(shard);
    return add_all(names, out, stop, false);
  }

  std::string name_;
  std::string root_;
  std::string only_;
  std::string credentials_;
  std::shared_ptr<http_client> over_;
};

} // namespace

std::shared_ptr<source> make_http_source(const location& from, std::shared_ptr<http_client> over) {
  return std::make_shared<http_source>(from, std::move(over));
}

std::span<const std::string_view> usual_model_files() { return usual_files; }

} // namespace troupe::storage

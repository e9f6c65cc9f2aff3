#include "engine/gguf/tokenizer.hpp"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "engine/errors.hpp"
#include "engine/gguf/merges.hpp"
#include "engine/gguf/pre_tokenizers.hpp"
#include "engine/gguf/values.hpp"

namespace troupe::engine {

namespace {

using json = nlohmann::json;
using texts = std::vector<std::string_view>;
using result = caf::expected<std::shared_ptr<const tokenizer>>;

constexpr std::string_view mark = "\u2581"; // SentencePiece's space

class tokenizer_reader {
public:
  explicit tokenizer_reader(const gguf_source& source) : source_{source}, values_{source.values} {}

  result run() {
    if (const auto* whole = value_if<std::string_view>(values_, "tokenizer.huggingface.json"))
      return tokenizer::parse(*whole, source_.origin);
    const auto* model = value_if<std::string_view>(values_, "tokenizer.ggml.model");
    if (!model)
      return fail(errc::invalid_config, "tokenizer.ggml.model is missing: the file describes no "
                                        "tokenizer");
    tokens_ = list_if<std::string_view>(values_, "tokenizer.ggml.tokens");
    if (!tokens_ || tokens_->empty())
      return fail(errc::invalid_config, "tokenizer.ggml.tokens is missing");
    if (*model == "gpt2")
      return byte_level();
    if (*model == "llama")
      return sentencepiece();
    return fail(errc::unsupported, "tokenizer.ggml.model is '" + std::string{model->substr(0, 60)} +
                                       "', which is not supported; supported are gpt2 and llama");
  }

private:
  caf::error fail(errc code, const std::string& what) const {
    return caf::make_error(code, source_.origin + ": " + what);
  }

  bool flag_or(std::string_view name, bool otherwise) const {
    const auto* found = value_if<bool>(values_, name);
    return found ? *found : otherwise;
  }

  /// The id under `name`, if a token has it.
  std::optional<int64_t> token_at(std::string_view name) const {
    const auto id = integer_of(values_, name);
    return id && *id >= 0 && *id < static_cast<int64_t>(tokens_->size()) ? id : std::nullopt;
  }

  /// Begin and end tokens around a text.
  json post_processor(bool begins) const {
    json single = json::array(), known = json::object();
    const auto add = [&](const char* name, std::string_view key) {
      const auto id = token_at(key);
      if (!id)
        return;
      single.push_back({{"SpecialToken", {{"id", name}}}});
      known[name] = {{"ids", {*id}}};
    };
    if (flag_or("tokenizer.ggml.add_bos_token", begins))
      add("begin", "tokenizer.ggml.bos_token_id");
    single.push_back({{"Sequence", {{"id", "A"}}}});
    if (flag_or("tokenizer.ggml.add_eos_token", false))
      add("end", "tokenizer.ggml.eos_token_id");
    return {{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", known}};
  }

  /// Tokens that are found in the text before it is cut, and what is left for the model.
  token_lists lists(bool model_knows_control) const {
    token_lists out;
    out.tokens = *tokens_;
    for (size_t id = 0; id < tokens_->size(); ++id) {
      const auto kind = kind_of_token(values_, id);
      const bool special = kind == gguf_token_kind::control || kind == gguf_token_kind::unknown;
      if (special || kind == gguf_token_kind::user_defined)
        out.added.push_back({static_cast<token_id>(id), (*tokens_)[id], special});
      if (kind == gguf_token_kind::unused || (special && !model_knows_control))
        out.tokens[id] = {};
    }
    return out;
  }

  caf::expected<const pre_tokenizer_kind*> pre_tokenizer() const {
    const auto* name = value_if<std::string_view>(values_, "tokenizer.ggml.pre");
    const auto* arch = value_if<std::string_view>(values_, "general.architecture");
    // Old files do not say; of some architectures all models have the same.
    if ((!name || *name == "default") && arch && arch->starts_with("qwen"))
      return find_pre_tokenizer("qwen2");
    if (!name || *name == "default")
      return fail(errc::unsupported, "tokenizer.ggml.pre is missing, so that texts cannot be cut "
                                     "into words; convert the model again");
    if (const auto* found = find_pre_tokenizer(*name))
      return found;
    return fail(errc::unsupported, "tokenizer.ggml.pre is '" + std::string{name->substr(0, 60)} +
                                       "', which is not supported; supported are " +
                                       pre_tokenizer_names());
  }

  result byte_level() const {
    const auto kind = pre_tokenizer();
    if (!kind)
      return kind.error();
    const auto& pre = **kind;
    json steps = json::array();
    if (pre.single_digits)
      steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
    for (const auto pattern : pre.patterns)
      steps.push_back({{"type", "Split"},
                       {"pattern", {{"Regex", pattern}}},
                       {"behavior", "Isolated"},
                       {"invert", false}});
    steps.push_back(
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", pre.then_gpt2}});
    json whole = {{"model", {{"type", "BPE"}, {"ignore_merges", pre.whole_words}}},
                  {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", steps}}},
                  {"post_processor", post_processor(pre.begins_text)},
                  {"decoder", {{"type", "ByteLevel"}}}};
    if (pre.composes)
      whole["normalizer"] = {{"type", "NFC"}};
    auto given = lists(false);
    const auto* merges = list_if<std::string_view>(values_, "tokenizer.ggml.merges");
    if (!merges)
      return fail(errc::invalid_config, "tokenizer.ggml.merges is missing");
    given.merges.reserve(merges->size());
    for (const auto merge : *merges) {
      const auto space = merge.find(' ', 1);
      if (space == std::string_view::npos)
        return fail(errc::invalid_config, "tokenizer.ggml.merges holds a merge of one part");
      given.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
    }
    return tokenizer::assemble(whole.dump(), given, source_.origin);
  }

  result sentencepiece() const {
    const auto* scores = list_if<double>(values_, "tokenizer.ggml.scores");
    if (!scores || scores->size() != tokens_->size())
      return fail(errc::invalid_config, "tokenizer.ggml.scores must have one for each token");
    if (std::any_of(scores->begin(), scores->end(), [](double x) { return std::isnan(x); }))
      return fail(errc::invalid_config, "tokenizer.ggml.scores holds what is no number");
    const bool prefix = flag_or("tokenizer.ggml.add_space_prefix", true);
    json normalizers = json::array();
    if (prefix)
      normalizers.push_back({{"type", "Prepend"}, {"prepend", mark}});
    normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", mark}});
    json decoders = {{{"type", "Replace"}, {"pattern", {{"String", mark}}}, {"content", " "}},
                     {{"type", "ByteFallback"}},
                     {{"type", "Fuse"}}};
    if (prefix)
      decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    json model = {{"type", "BPE"}, {"byte_fallback", true}, {"fuse_unk", true}};
    auto given = lists(true);
    if (const auto unknown = unknown_token(); !unknown.empty())
      model["unk_token"] = unknown;
    const json whole = {{"model", model},
                        {"normalizer", {{"type", "Sequence"}, {"normalizers", normalizers}}},
                        {"post_processor", post_processor(true)},
                        {"decoder", {{"type", "Sequence"}, {"decoders", decoders}}}};
    given.merges = merges_of_scores(joined_pieces(), *scores);
    return tokenizer::assemble(whole.dump(-1, ' ', false, json::error_handler_t::replace), given,
                               source_.origin);
  }

  std::string_view unknown_token() const {
    const auto id = token_at("tokenizer.ggml.unknown_token_id").value_or(0);
    return kind_of_token(values_, static_cast<size_t>(id)) == gguf_token_kind::unknown
               ? (*tokens_)[static_cast<size_t>(id)]
               : std::string_view{};
  }

  /// The pieces that SentencePiece joins; the others stand for themselves.
  texts joined_pieces() const {
    auto out = *tokens_;
    for (size_t id = 0; id < out.size(); ++id)
      if (kind_of_token(values_, id) != gguf_token_kind::normal)
        out[id] = {};
    return out;
  }

  const gguf_source& source_;
  const metadata& values_;
  const texts* tokens_ = nullptr;
};

} // namespace

result gguf_tokenizer(const gguf_source& source) { return tokenizer_reader(source).run(); }

} // namespace troupe::engine

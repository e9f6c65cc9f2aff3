#include "engine/frontend/frontend.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>

#include "engine/errors.hpp"

namespace troupe::engine {

namespace {

using json = nlohmann::ordered_json;
namespace fs = std::filesystem;

/// A tokenizer with a large vocabulary is some 20 MiB; beyond this a text file is not what it
/// claims.
constexpr uintmax_t text_bytes_max = 256u << 20;

bool present(const fs::path& file) {
  std::error_code ignored;
  return fs::exists(file, ignored);
}

caf::expected<std::string> read_text(const fs::path& file) {
  std::error_code why;
  const auto size = fs::file_size(file, why);
  if (why)
    return caf::make_error(errc::invalid_config,
                           "cannot read " + file.string() + ": " + why.message());
  if (size > text_bytes_max)
    return caf::make_error(errc::invalid_config, file.string() + " has " + std::to_string(size) +
                                                     " bytes, more than such a file can have");
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in)
    return caf::make_error(errc::invalid_config, "cannot read " + file.string());
  return std::move(text).str();
}

/// The parsed file, an empty object when there is none.
caf::expected<json> read_optional_json(const fs::path& file) {
  if (!present(file))
    return json::object();
  auto text = read_text(file);
  if (!text)
    return text.error();
  auto parsed = json::parse(*text, nullptr, false);
  if (!parsed.is_object())
    return caf::make_error(errc::invalid_config, file.string() + " is not a JSON object");
  return parsed;
}

/// A special token is written as a string or as an object with a `content`.
std::string special_token(const json& tokenizer_config, const json& special_map, const char* key) {
  for (const json* where : {&tokenizer_config, &special_map}) {
    const auto found = where->find(key);
    if (found == where->end())
      continue;
    if (found->is_string())
      return found->get<std::string>();
    if (found->is_object() && found->contains("content") && (*found)["content"].is_string())
      return (*found)["content"].get<std::string>();
  }
  return {};
}

/// `chat_template` in tokenizer_config.json is a string, or a list of named ones: "default" serves.
std::optional<std::string> embedded_template(const json& tokenizer_config) {
  const auto found = tokenizer_config.find("chat_template");
  if (found == tokenizer_config.end())
    return std::nullopt;
  if (found->is_string())
    return found->get<std::string>();
  if (!found->is_array())
    return std::nullopt;
  std::optional<std::string> first;
  for (const auto& entry : *found) {
    if (!entry.is_object() || !entry.contains("template") || !entry["template"].is_string())
      continue;
    const auto text = entry["template"].get<std::string>();
    if (entry.value("name", "") == "default")
      return text;
    if (!first)
      first = text;
  }
  return first;
}

/// The author's defaults, empty when there is no generation_config.json.
caf::expected<generation_defaults> load_defaults(const fs::path& dir) {
  const auto file = dir / "generation_config.json";
  if (!present(file))
    return generation_defaults{};
  auto text = read_text(file);
  if (!text)
    return text.error();
  return parse_generation_config(*text, file.string());
}

caf::error load_chat_template(const fs::path& dir, const json& tokenizer_config, frontend& out) {
  const auto file = dir / "chat_template.jinja";
  std::optional<std::string> source;
  auto origin = (dir / "tokenizer_config.json").string() + ": chat_template";
  if (present(file)) {
    auto text = read_text(file);
    if (!text)
      return text.error();
    source = std::move(*text);
    origin = file.string();
  } else {
    source = embedded_template(tokenizer_config);
  }
  if (!source)
    return {};
  auto compiled = chat_template::compile(*source, origin);
  if (!compiled)
    return compiled.error();
  out.chat = std::move(*compiled);
  return {};
}

} // namespace

caf::expected<model_config> load_model_config(const fs::path& dir) {
  const auto file = dir / "config.json";
  auto text = read_text(file);
  if (!text)
    return text.error();
  auto config = parse_model_config(*text, file.string());
  if (!config)
    return config.error();
  auto defaults = load_defaults(dir);
  if (!defaults)
    return defaults.error();
  add_end_tokens(*config, *defaults);
  return config;
}

caf::expected<std::string> frontend::render_chat(const json& messages, const json& extra) const {
  if (!chat)
    return caf::make_error(errc::unsupported,
                           "model " + name +
                               " has no chat template; use /v1/completions (in the "
                               "terminal: --raw), or add a "
                               "chat_template.jinja to its directory");
  json context = extra.is_object() ? extra : json::object();
  context["messages"] = messages;
  if (!context.contains("bos_token"))
    context["bos_token"] = bos_token;
  if (!context.contains("eos_token"))
    context["eos_token"] = eos_token;
  return chat->render(context);
}

caf::expected<std::vector<token_id>> frontend::encode_chat(const json& messages,
                                                           const json& extra) const {
  auto text = render_chat(messages, extra);
  if (!text)
    return text.error();
  return tokens->encode(*text, false);
}

caf::expected<std::shared_ptr<const frontend>> load_frontend(const fs::path& dir,
                                                             const std::string& name) {
  auto out = std::make_shared<frontend>();
  out->name = name;
  auto config = load_model_config(dir);
  if (!config)
    return config.error();
  out->config = std::move(*config);
  out->context_length =
      static_cast<uint32_t>(std::min<int64_t>(out->config.context_length, UINT32_MAX));
  auto defaults = load_defaults(dir);
  if (!defaults)
    return defaults.error();
  out->defaults = std::move(*defaults);
  auto loaded = tokenizer::load(dir / "tokenizer.json");
  if (!loaded)
    return loaded.error();
  out->tokens = std::move(*loaded);
  auto tokenizer_config = read_optional_json(dir / "tokenizer_config.json");
  if (!tokenizer_config)
    return tokenizer_config.error();
  auto special_map = read_optional_json(dir / "special_tokens_map.json");
  if (!special_map)
    return special_map.error();
  out->bos_token = special_token(*tokenizer_config, *special_map, "bos_token");
  out->eos_token = special_token(*tokenizer_config, *special_map, "eos_token");
  if (auto why = load_chat_template(dir, *tokenizer_config, *out))
    return why;
  return std::shared_ptr<const frontend>{std::move(out)};
}

} // namespace troupe::engine

#include <limits>

#include <nlohmann/json.hpp>

#include "config/keys.hpp"
#include "config/load.hpp"

namespace troupe::config {
namespace {

using json = nlohmann::ordered_json;

constexpr auto size_pattern = "^[0-9]+(\\.[0-9]+)? ?([KMGT](iB|B)?|B)?$";
constexpr auto duration_pattern = "^([0-9]+(\\.[0-9]+)?(ms|s|min|m|h|d))+$";

json number_or_text(std::string_view pattern, json minimum) {
  json number = {{"type", "integer"}};
  if (!minimum.is_null())
    number["minimum"] = std::move(minimum);
  return {{"oneOf", json::array({std::move(number), {{"type", "string"}, {"pattern", pattern}}})}};
}

/// The form of a value; the parser says the rest (sizes within bounds, ports that exist).
json form(kind type, uint64_t min, uint64_t max, std::span<const std::string_view> choices) {
  switch (type) {
  case kind::boolean:
    return {{"type", "boolean"}};
  case kind::count:
    return {{"type", "integer"}, {"minimum", min}, {"maximum", max}};
  case kind::size:
    return number_or_text(size_pattern, min);
  case kind::memory:
    return number_or_text("^([1-9][0-9]?|100)%$|" + std::string{size_pattern}, min);
  case kind::duration:
    return number_or_text(duration_pattern, 0);
  case kind::keep_alive:
    return number_or_text("^auto$|^-.+$|" + std::string{duration_pattern}, nullptr);
  case kind::address:
    return {{"type", "string"}, {"pattern", "^(\\[[^\\]]+\\]|[^:\\[\\]/ ]*):[0-9]{1,5}$"}};
  case kind::text:
  case kind::path:
    return {{"type", "string"}};
  case kind::choice: {
    json names = json::array();
    for (const auto name : choices)
      names.push_back(name);
    return {{"enum", std::move(names)}};
  }
  case kind::paths:
  case kind::names:
    return {{"type", json::array({"array", "null"})},
            {"items", {{"type", "string"}, {"minLength", 1}}}};
  case kind::references:
    return {{"oneOf", json::array({{{"type", "string"}},
                                   {{"type", "array"},
                                    {"items", {{"type", "string"}, {"minLength", 1}}}}})}};
  case kind::toggle_path:
    return {
        {"oneOf", json::array({{{"type", "boolean"}}, {{"type", "string"}, {"minLength", 1}}})}};
  }
  return json::object();
}

template <class Owner>
json property(const key<Owner>& which, const Owner& defaults) {
  json result = {{"description", which.about}};
  result.update(form(which.type, which.min, which.max, which.choices));
  const auto value = which.read(defaults);
  if (!value)
    return result;
  if (const auto* flag = std::get_if<bool>(&*value))
    result["default"] = *flag;
  else if (const auto* number = std::get_if<uint64_t>(&*value); number && which.type == kind::count)
    result["default"] = *number;
  else if (const auto* list = std::get_if<std::vector<std::string>>(&*value))
    result["default"] = *list;
  else if (which.type == kind::toggle_path)
    result["default"] = std::get<std::string>(*value) == "on";
  else if (const auto* text = std::get_if<std::string>(&*value))
    result["default"] = *text;
  else
    result["default"] = format_value(which.type, *value);
  return result;
}

json section() {
  return {{"type", json::array({"object", "null"})},
          {"additionalProperties", false},
          {"properties", json::object()}};
}

json access_keys(const char* about) {
  const json text = {{"type", "string"}, {"minLength", 1}};
  json one = section();
  one["type"] = "object";
  one["properties"] = {
      {"hash", {{"type", "string"}, {"pattern", "^sha256:[0-9a-f]{64}$"}}},
      {"env", text},
      {"file", text},
      {"name", text},
      {"expires", {{"type", "string"}, {"pattern", "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt].+)?$"}}}};
  one["oneOf"] = json::array();
  for (const auto* name : {"hash", "env", "file"})
    one["oneOf"].push_back({{"required", json::array({name})}});
  return {{"description", about}, {"type", json::array({"array", "null"})}, {"items", one}};
}

json budget() {
  json out = section();
  out["type"] = "object";
  out["description"] = "What may be spent within a period; 429 after it.";
  out["required"] = json::array({"tokens", "per"});
  out["properties"] = {
      {"tokens", number_or_text("^[0-9]+(\\.[0-9]+)?[kMG]?$", 1)},
      {"per",
       {{"description", "A period of the calendar (UTC), or a sliding span of whole hours."},
        {"type", "string"},
        {"pattern", "^(day|week|month|([0-9]+(h|d))+)$"}}},
      {"soft",
       {{"description", "The share from which on the log warns."},
        {"type", "string"},
        {"pattern", "^([1-9][0-9]?|100)%$"}}},
      {"cost",
       {{"description", "What a token costs by kind; one that the prefix cache held is no input."},
        {"type", "string"},
        {"default", budget_settings{}.cost}}}};
  return out;
}

json tenant() {
  json out = section(), limits = section();
  for (const auto& [name, about] : {std::pair{"rpm", "Requests in any 60 seconds."},
                                    {"tpm", "Tokens in any 60 seconds."},
                                    {"concurrency", "Requests at a time."},
                                    {"max_tokens", "Tokens of one answer."},
                                    {"queue", "Requests that wait."},
                                    {"warm_models", "Models that it keeps loaded."},
                                    {"cold_starts_per_hour", "Loads for it in any 60 minutes."}}) {
    limits["properties"][name] = {{"description", about}};
    limits["properties"][name].update(number_or_text("^[0-9]+(\\.[0-9]+)?[kMG]?$", 1));
  }
  limits["properties"]["vram"] = {
      {"description", "Memory of the models that it keeps loaded; who share one, share its size."}};
  limits["properties"]["vram"].update(number_or_text(size_pattern, 1));
  out["properties"] = {
      {"keys", access_keys("Keys that make a request this tenant's.")},
      {"models",
       {{"description", "Names of models that may be used; * and ? match several."},
        {"type", "array"},
        {"items", {{"type", "string"}, {"minLength", 1}}},
        {"minItems", 1}}},
      {"weight",
       {{"description", "Share under contention."},
        {"type", "number"},
        {"minimum", 0.001},
        {"maximum", 1e6},
        {"default", 1}}},
      {"priority",
       {{"description", "Higher classes go first."},
        {"enum", json::array({"interactive", "standard", "batch"})},
        {"default", "standard"}}},
      {"limits", std::move(limits)},
      {"budget", budget()},
      {"mode",
       {{"description", "Refuse what is over a limit, or only count it."},
        {"enum", json::array({"enforce", "shadow"})},
        {"default", "enforce"}}}};
  return out;
}

} // namespace

std::string json_schema() {
  const settings node_defaults;
  const model_settings model_defaults;
  json root = {{"$schema", "http://json-schema.org/draft-07/schema#"},
               {"title", "troupe.yaml"},
               {"description", "Configuration of a Troupe node. Made by `troupe config schema`."}};
  root.update(section());
  auto& properties = root["properties"];
  for (const auto& entry : node_keys()) {
    const size_t dot = entry.path.find('.');
    if (dot == std::string_view::npos) {
      properties[std::string{entry.path}] = property(entry, node_defaults);
      continue;
    }
    const std::string here{entry.path.substr(0, dot)};
    if (!properties.contains(here))
      properties[here] = section();
    properties[here]["properties"][std::string{entry.path.substr(dot + 1)}] =
        property(entry, node_defaults);
  }
  json model = section();
  for (const auto& entry : model_keys())
    model["properties"][std::string{entry.path}] = property(entry, model_defaults);
  properties["models"] = {
      {"description",
       "Settings by model id; * and ? match several, later ones win, exact names beat both."},
      {"type", json::array({"object", "null"})},
      {"additionalProperties", std::move(model)}};
  properties["admin_keys"] = access_keys("Keys of the routes below /admin.");
  properties["tenants"] = {{"description", "Who may use the API, and how much, by name."},
                           {"type", json::array({"object", "null"})},
                           {"additionalProperties", tenant()}};
  return root.dump(2) + "\n";
}

} // namespace troupe::config

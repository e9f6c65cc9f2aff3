// The fields that chat and plain completions share.
#include <charconv>
#include <cmath>

#include "gateway/openai_request.hpp"

namespace troupe::gateway {

namespace {

constexpr size_t stops_max = 16;
constexpr size_t stop_bytes_max = 1024;
constexpr size_t logit_bias_max = 4096;
/// Longer than any context; keeps sums of it far from overflow.
constexpr int64_t tokens_max = 1 << 30;

std::optional<float> as_float(std::optional<double> value) {
  return value ? std::optional{static_cast<float>(*value)} : std::nullopt;
}

void read_stop(field_reader& fields, std::vector<std::string>& out) {
  const auto* stop = fields.any("stop");
  if (!stop)
    return;
  if (stop->is_string())
    out.push_back(stop->get<std::string>());
  else if (!stop->is_array())
    return fields.wrong_type("stop", *stop, "a string or an array of strings");
  else
    for (const auto& one : *stop) {
      if (!one.is_string())
        return fields.wrong_type("stop", one, "an array of strings");
      out.push_back(one.get<std::string>());
    }
  if (out.size() > stops_max)
    return fields.fail("stop", "Invalid value for 'stop': at most 16 strings are allowed.",
                       "invalid_value");
  // An empty stop string would end every answer before it began; clients send it to mean "none".
  std::erase_if(out, [](const std::string& one) { return one.empty(); });
  for (const auto& one : out)
    if (one.size() > stop_bytes_max)
      return fields.fail("stop", "Invalid value for 'stop': a string is longer than 1024 bytes.",
                         "invalid_value");
}

void read_logit_bias(field_reader& fields, actors::sampling_request& out) {
  const auto* bias = fields.object("logit_bias");
  if (!bias)
    return;
  if (bias->size() > logit_bias_max)
    return fields.fail("logit_bias",
                       "Invalid value for 'logit_bias': at most 4096 tokens are allowed.",
                       "invalid_value");
  field_reader values{*bias, "logit_bias."};
  for (const auto& [key, unused] : bias->items()) {
    engine::token_id token = -1;
    const auto* end = key.data() + key.size();
    const auto [rest, why] = std::from_chars(key.data(), end, token);
    if (why != std::errc{} || rest != end || token < 0)
      return fields.fail("logit_bias",
                         "Invalid key in 'logit_bias': '" + key.substr(0, 40) +
                             "' is not a token id.",
                         "invalid_value");
    const auto value = values.number(key, -100, 100);
    if (values.failed())
      return fields.fail(*values.error());
    if (value)
      out.logit_bias.emplace_back(token, static_cast<float>(*value));
  }
}

void read_penalties(field_reader& fields, actors::sampling_request& out) {
  out.presence_penalty = as_float(fields.number("presence_penalty", -2, 2));
  out.frequency_penalty = as_float(fields.number("frequency_penalty", -2, 2));
  // Two names for one thing; 0 would divide by it.
  for (const auto* name : {"repeat_penalty", "repetition_penalty"})
    if (const auto value = fields.number(name, 0.01, 10))
      out.repetition_penalty = static_cast<float>(*value);
}

void read_lengths(field_reader& fields, actors::sampling_request& out) {
  // The newer name wins. -1 means "no limit of mine" to several clients.
  for (const auto* name : {"max_tokens", "max_completion_tokens"}) {
    const auto value = fields.integer(name, -1, tokens_max);
    if (value && *value >= 0)
      out.max_tokens = static_cast<uint32_t>(*value);
    if (value && *value == 0)
      return fields.fail(name, "Invalid value for '" + std::string{name} + "': must be at least 1.",
                         "invalid_value");
  }
  if (const auto value = fields.integer("min_tokens", 0, tokens_max))
    out.min_tokens = static_cast<uint32_t>(*value);
  if (out.max_tokens && out.min_tokens > *out.max_tokens)
    fields.fail("min_tokens", "Invalid value for 'min_tokens': it is larger than max_tokens.",
                "invalid_value");
  out.ignore_eos = fields.boolean("ignore_eos").value_or(false);
}

void read_seed(field_reader& fields, actors::sampling_request& out) {
  const auto* seed = fields.any("seed");
  if (!seed)
    return;
  if (seed->is_number_unsigned())
    out.seed = seed->get<uint64_t>();
  else if (const auto value = fields.integer("seed", INT64_MIN, INT64_MAX))
    out.seed = static_cast<uint64_t>(*value);
}

/// One part of "1h30m": a number and its unit. Returns milliseconds, advances `text`.
std::optional<double> take_duration_part(std::string_view& text) {
  double count = 0;
  const auto [rest, why] =
      std::from_chars(text.data(), text.data() + text.size(), count, std::chars_format::fixed);
  if (why != std::errc{} || count < 0)
    return std::nullopt;
  text.remove_prefix(rest - text.data());
  constexpr std::pair<std::string_view, double> units[] = {
      {"ns", 1e-6}, {"us", 1e-3}, {"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}};
  for (const auto& [unit, scale] : units)
    if (text.starts_with(unit)) {
      text.remove_prefix(unit.size());
      return count * scale;
    }
  return std::nullopt;
}

std::optional<std::chrono::milliseconds> bounded_ms(double value) {
  constexpr double year_ms = 366.0 * 24 * 3600 * 1000;
  if (!std::isfinite(value) || std::abs(value) > 100 * year_ms)
    return std::nullopt;
  // A keep-alive under a millisecond is not "for ever" nor "at once".
  const auto rounded = static_cast<int64_t>(value < 0 ? std::floor(value) : std::ceil(value));
  return std::chrono::milliseconds{rounded};
}

} // namespace

std::optional<std::chrono::milliseconds> parse_keep_alive(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative)
    text.remove_prefix(1);
  if (text.empty() || text[0] < '0' ||
      text[0] > '9') // from_chars would take a second sign, or "inf"
    return std::nullopt;
  double seconds = 0;
  const auto [rest, why] =
      std::from_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::fixed);
  if (why == std::errc{} && rest == text.data() + text.size())
    return bounded_ms(negative ? -seconds * 1000 : seconds * 1000);
  double sum = 0;
  while (!text.empty()) {
    const auto part = take_duration_part(text);
    if (!part)
      return std::nullopt;
    sum += *part;
  }
  return bounded_ms(negative ? -sum : sum);
}

void read_keep_alive(field_reader& fields, actors::invocation_request& out) {
  const auto* value = fields.any("keep_alive");
  if (!value)
    return;
  if (value->is_number())
    out.keep_alive = bounded_ms(value->get<double>() * 1000);
  else if (value->is_string())
    out.keep_alive = parse_keep_alive(value->get_ref<const std::string&>());
  else
    return fields.wrong_type("keep_alive", *value, "seconds or a duration such as \"5m\"");
  if (!out.keep_alive)
    fields.fail("keep_alive",
                "Invalid value for 'keep_alive': use seconds or a duration such as "
                "\"5m\"; -1 keeps the model loaded, 0 unloads it at once.",
                "invalid_value");
}

std::vector<engine::token_id> read_token_ids(field_reader& fields, std::string_view name,
                                             const json& array) {
  std::vector<engine::token_id> out;
  out.reserve(array.size());
  for (const auto& one : array) {
    const bool fits = one.is_number_integer() &&
                      !(one.is_number_unsigned() && one.get<uint64_t>() > INT32_MAX) &&
                      one.get<int64_t>() >= 0;
    if (!fits) {
      if (one.is_number_integer())
        fields.fail(name,
                    "Invalid value for '" + fields.path(name) + "': " + one.dump() +
                        " is not a token id.",
                    "invalid_value");
      else
        fields.wrong_type(name, one, "an array of token ids");
      return {};
    }
    out.push_back(one.get<engine::token_id>());
  }
  return out;
}

void read_sampling(field_reader& fields, actors::invocation_request& out,
                   const request_limits& limits) {
  auto& sampling = out.sampling;
  sampling.temperature = as_float(fields.number("temperature", 0, 2));
  sampling.top_p = as_float(fields.number("top_p", 0, 1));
  sampling.min_p = as_float(fields.number("min_p", 0, 1));
  // -1 and 0 both mean "all tokens".
  if (const auto value = fields.integer("top_k", -1, INT32_MAX))
    sampling.top_k = static_cast<int32_t>(std::max<int64_t>(*value, 0));
  read_penalties(fields, sampling);
  read_logit_bias(fields, sampling);
  read_seed(fields, sampling);
  read_lengths(fields, sampling);
  read_stop(fields, sampling.stop);
  if (const auto* ids = fields.array("stop_token_ids")) {
    if (ids->size() > 256)
      fields.fail("stop_token_ids", "Invalid value for 'stop_token_ids': at most 256 are allowed.",
                  "invalid_value");
    else
      sampling.stop_token_ids = read_token_ids(fields, "stop_token_ids", *ids);
  }
  if (const auto value = fields.integer("n", 1, limits.n_max))
    out.n = static_cast<uint32_t>(*value);
  read_keep_alive(fields, out);
  fields.text("user");
}

void read_stream_options(field_reader& fields, openai_request& out) {
  out.stream = fields.boolean("stream").value_or(false);
  const auto* options = fields.object("stream_options");
  if (!options)
    return;
  if (!out.stream)
    return fields.fail("stream_options",
                       "The 'stream_options' parameter is only allowed when 'stream' "
                       "is true.",
                       "invalid_value");
  field_reader inner{*options, "stream_options."};
  out.include_usage = inner.boolean("include_usage").value_or(false);
  if (inner.failed())
    fields.fail(*inner.error());
}

} // namespace troupe::gateway

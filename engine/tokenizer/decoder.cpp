#include "engine/tokenizer/decoder.hpp"

#include <algorithm>

#include "engine/tokenizer/byte_alphabet.hpp"
#include "engine/tokenizer/pattern.hpp"

namespace troupe::engine {

namespace {

using json_fields::element;

std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>')
    return std::nullopt;
  unsigned value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0)
      return std::nullopt;
    value = value * 16 + static_cast<unsigned>(digit);
  }
  return static_cast<char>(value);
}

/// Removes up to `left` and `right` copies of `content` from the ends.
std::string_view stripped(std::string_view text, std::string_view content, size_t left,
                          size_t right) {
  for (; left > 0 && !content.empty() && text.starts_with(content); --left)
    text.remove_prefix(content.size());
  for (; right > 0 && !content.empty() && text.ends_with(content); --right)
    text.remove_suffix(content.size());
  return text;
}

} // namespace

caf::expected<decoder> decoder::make(std::optional<element> spec, const std::string& origin) {
  decoder out;
  if (!spec) {
    out.spaced_ = true;
    return out;
  }
  if (auto why = out.add(*spec, origin))
    return why;
  return out;
}

caf::error decoder::add_replace(element spec, const std::string& origin) {
  auto pattern = make_pattern(spec, origin);
  if (!pattern)
    return pattern.error();
  if (fused_)
    return caf::make_error(tokenizer_errc::unsupported,
                           origin + ": a Replace decoder behind Fuse is not supported");
  piece_steps_.push_back(
      {kind::replace, std::move(*pattern), json_fields::text(spec, "content"), 0, 0, false});
  return {};
}

caf::error decoder::add(element spec, const std::string& origin) {
  const auto type = json_fields::text(spec, "type");
  if (type == "Sequence") {
    simdjson::dom::array list;
    const auto field = json_fields::find(spec, "decoders");
    if (!field || field->get(list))
      return json_fields::malformed(origin, "a Sequence decoder has no list `decoders`");
    for (const auto child : list)
      if (auto why = add(child, origin))
        return why;
    return {};
  }
  if (type == "ByteLevel") {
    byte_level_ = fused_ = true;
  } else if (type == "ByteFallback") {
    byte_fallback_ = true;
  } else if (type == "Fuse") {
    fused_ = true;
  } else if (type == "Metaspace") {
    const auto legacy = json_fields::flag(spec, "add_prefix_space", true) ? "always" : "never";
    piece_steps_.push_back({kind::metaspace, std::nullopt,
                            json_fields::text(spec, "replacement", "\u2581"), 0, 0,
                            json_fields::text(spec, "prepend_scheme", legacy) != "never"});
  } else if (type == "Strip") {
    const auto left = std::max<int64_t>(0, json_fields::integer(spec, "start", 0));
    const auto right = std::max<int64_t>(0, json_fields::integer(spec, "stop", 0));
    if (fused_ && right > 0)
      return caf::make_error(tokenizer_errc::unsupported,
                             origin + ": a Strip decoder that strips the text's end cannot stream");
    (fused_ ? text_steps_ : piece_steps_)
        .push_back({kind::strip, std::nullopt, json_fields::text(spec, "content", " "),
                    static_cast<size_t>(left), static_cast<size_t>(right), false});
  } else if (type == "Replace") {
    return add_replace(spec, origin);
  } else {
    return caf::make_error(tokenizer_errc::unsupported,
                           origin + ": the decoder '" + type + "' is not supported");
  }
  return {};
}

decoder::state decoder::start() const {
  state out;
  for (const auto& one : text_steps_)
    out.strip_left += one.left;
  return out;
}

decoder::state decoder::resume() const {
  state out;
  out.first = false;
  return out;
}

std::string decoder::apply_piece_steps(std::string_view token, bool first) const {
  std::string text{token};
  for (const auto& step : piece_steps_) {
    if (step.what == kind::replace) {
      text = replace_all(*step.pattern, text, step.content);
    } else if (step.what == kind::strip) {
      text = stripped(text, step.content, step.left, step.right);
    } else if (step.what == kind::metaspace) {
      const std::string_view space = first && step.drops_first ? "" : " ";
      std::string mapped;
      for (size_t at = 0; at < text.size();) {
        const bool mark = std::string_view{text}.substr(at).starts_with(step.content);
        mapped += mark ? space : std::string_view{text}.substr(at, 1);
        at += mark ? step.content.size() : 1;
      }
      text = std::move(mapped);
    }
  }
  return text;
}

void decoder::emit(std::string_view text, state& state, std::string& out) const {
  while (state.strip_left > 0 && !text.empty()) {
    const auto& content = text_steps_.front().content;
    if (content.empty() || !text.starts_with(content)) {
      state.strip_left = 0;
      break;
    }
    text.remove_prefix(content.size());
    --state.strip_left;
  }
  out += text;
}

void decoder::end_run(state& state, std::string& out) const {
  if (state.run.empty())
    return;
  std::string text;
  if (utf8::valid(state.run)) {
    text = state.run;
  } else { // the package replaces every byte of a run that is not UTF-8 as a whole
    for (size_t i = 0; i < state.run.size(); ++i)
      text += "\xef\xbf\xbd";
  }
  state.run.clear();
  emit(text, state, out);
}

void decoder::push(std::string_view token, state& state, std::string& out, bool eager) const {
  const bool first = std::exchange(state.first, false);
  if (byte_level_) {
    std::string bytes, text;
    byte_alphabet::decode(apply_piece_steps(token, first), bytes);
    state.assembler.push(bytes, text);
    emit(text, state, out);
    return;
  }
  const auto text = apply_piece_steps(token, first);
  if (const auto byte = byte_fallback_ ? fallback_byte(text) : std::nullopt) {
    state.run += *byte;
    while (eager && !state.run.empty()) {
      const auto step = utf8::scan(state.run);
      if (step.truncated)
        break;
      emit(step.length ? std::string_view{state.run}.substr(0, step.length)
                       : std::string_view{"\xef\xbf\xbd"},
           state, out);
      state.run.erase(0, step.length ? step.length : step.bad);
    }
    return;
  }
  end_run(state, out);
  if (spaced_ && !first)
    emit(" ", state, out);
  emit(text, state, out);
}

void decoder::flush(state& state, std::string& out) const {
  std::string text;
  state.assembler.flush(text);
  emit(text, state, out);
  end_run(state, out);
}

std::string decoder::bytes_of(std::string_view token) const {
  if (byte_level_) {
    std::string bytes;
    byte_alphabet::decode(apply_piece_steps(token, false), bytes);
    return bytes;
  }
  auto text = apply_piece_steps(token, false);
  if (const auto byte = byte_fallback_ ? fallback_byte(text) : std::nullopt)
    return std::string(1, *byte);
  return text;
}

} // namespace troupe::engine

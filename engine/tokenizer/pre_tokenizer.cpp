#include "engine/tokenizer/pre_tokenizer.hpp"

#include "engine/tokenizer/byte_alphabet.hpp"
#include "engine/tokenizer/pattern.hpp"
#include "engine/tokenizer/split_behavior.hpp"
#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {

namespace {

using json_fields::element;

/// GPT-2's pattern, built into ByteLevel.
constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::vector<span_match> spans_of(const regex& pattern, std::string_view text, bool invert) {
  std::vector<span_match> spans;
  size_t done = 0;
  for (size_t from = 0; from < text.size();) {
    const auto hit = pattern.find(text, from);
    if (!hit)
      break;
    if (hit.end == hit.begin) { // empty matches split nothing
      from = hit.end + (hit.end < text.size() ? utf8::length(text[hit.end]) : 1);
      continue;
    }
    if (done < hit.begin)
      spans.push_back({done, hit.begin, invert});
    spans.push_back({hit.begin, hit.end, !invert});
    done = from = hit.end;
  }
  if (done < text.size())
    spans.push_back({done, text.size(), invert});
  return spans;
}

class pattern_split final : public pre_tokenizer {
public:
  pattern_split(regex pattern, split_behavior behavior, bool invert)
      : pattern_{std::move(pattern)}, behavior_{behavior}, invert_{invert} {}
  void split(piece whole, std::vector<piece>& out, piece_arena&) const override {
    if (behavior_ != split_behavior::isolated) {
      emit_spans(whole, spans_of(pattern_, whole.text, invert_), behavior_, out);
      return;
    }
    // The common case: every match and every gap is a piece, no list in between.
    size_t done = 0;
    const auto emit = [&](size_t begin, size_t end) {
      out.push_back({whole.text.substr(begin, end - begin), whole.at_start && begin == 0});
    };
    for (size_t from = 0; from < whole.text.size();) {
      const auto hit = pattern_.find(whole.text, from);
      if (!hit)
        break;
      if (hit.end == hit.begin) {
        from = hit.end < whole.text.size() ? hit.end + utf8::length(whole.text[hit.end])
                                           : whole.text.size();
        continue;
      }
      if (done < hit.begin)
        emit(done, hit.begin);
      emit(hit.begin, hit.end);
      done = from = hit.end;
    }
    if (done < whole.text.size())
      emit(done, whole.text.size());
  }

private:
  regex pattern_;
  split_behavior behavior_;
  bool invert_;
};

/// Splits by a property of single characters.
class character_split final : public pre_tokenizer {
public:
  character_split(bool (*property)(char32_t), split_behavior behavior)
      : property_{property}, behavior_{behavior} {}
  void split(piece whole, std::vector<piece>& out, piece_arena&) const override {
    std::vector<span_match> spans;
    size_t done = 0;
    for (size_t at = 0; at < whole.text.size();) {
      const size_t begin = at;
      if (!property_(utf8::next(whole.text, at)))
        continue;
      if (done < begin)
        spans.push_back({done, begin, false});
      spans.push_back({begin, at, true});
      done = at;
    }
    if (done < whole.text.size())
      spans.push_back({done, whole.text.size(), false});
    emit_spans(whole, std::move(spans), behavior_, out);
  }

private:
  bool (*property_)(char32_t);
  split_behavior behavior_;
};

/// Runs of word characters and runs of others; white space is dropped.
class word_split final : public pre_tokenizer {
public:
  void split(piece whole, std::vector<piece>& out, piece_arena&) const override {
    enum class kind { space, word, other } run = kind::space;
    size_t begin = 0;
    const auto emit = [&](size_t end) {
      if (run != kind::space && begin < end)
        out.push_back({whole.text.substr(begin, end - begin), whole.at_start && begin == 0});
    };
    for (size_t at = 0; at < whole.text.size();) {
      const size_t from = at;
      const auto c = utf8::next(whole.text, at);
      const auto what = utf8::is_whitespace(c) ? kind::space
                        : utf8::is_word(c)     ? kind::word
                                               : kind::other;
      if (what == run)
        continue;
      emit(from);
      begin = from;
      run = what;
    }
    emit(whole.text.size());
  }
};

enum class prepend_scheme { always, first, never };

class metaspace final : public pre_tokenizer {
public:
  metaspace(std::string mark, prepend_scheme scheme, bool splits, regex mark_pattern)
      : mark_{std::move(mark)}, scheme_{scheme}, splits_{splits}, mark_pattern_{
                                                                      std::move(mark_pattern)} {}
  void split(piece whole, std::vector<piece>& out, piece_arena& arena) const override {
    std::string text;
    text.reserve(whole.text.size() + whole.text.size() / 2 + mark_.size());
    const bool marked = whole.text.starts_with(' ') || whole.text.starts_with(mark_);
    if (!marked &&
        (scheme_ == prepend_scheme::always || (scheme_ == prepend_scheme::first && whole.at_start)))
      text = mark_;
    for (const char c : whole.text) {
      if (c == ' ')
        text += mark_;
      else
        text += c;
    }
    arena.push_back(std::move(text));
    const piece made{arena.back(), whole.at_start};
    if (splits_)
      emit_spans(made, spans_of(mark_pattern_, made.text, false), split_behavior::merged_with_next,
                 out);
    else
      out.push_back(made);
  }

private:
  std::string mark_;
  prepend_scheme scheme_;
  bool splits_;
  regex mark_pattern_;
};

/// ByteLevel's add_prefix_space.
class prefix_space final : public pre_tokenizer {
public:
  void split(piece whole, std::vector<piece>& out, piece_arena& arena) const override {
    if (whole.text.empty() || whole.text.front() == ' ') {
      out.push_back(whole);
      return;
    }
    arena.push_back(" " + std::string{whole.text});
    out.push_back({arena.back(), whole.at_start});
  }
};

/// ByteLevel's mapping, where a further step wants to see the mapped text.
class byte_mapping final : public pre_tokenizer {
public:
  void split(piece whole, std::vector<piece>& out, piece_arena& arena) const override {
    arena.push_back(byte_alphabet::encode(whole.text));
    out.push_back({arena.back(), whole.at_start});
  }
};

caf::error add_pattern(pre_tokenizer_chain& chain, std::string_view pattern,
                       split_behavior behavior, bool invert, const std::string& origin) {
  auto compiled = regex::compile(pattern, false, origin);
  if (!compiled)
    return compiled.error();
  chain.steps.push_back(std::make_unique<pattern_split>(std::move(*compiled), behavior, invert));
  return {};
}

caf::error add_split(element spec, const std::string& origin, pre_tokenizer_chain& chain) {
  auto pattern = make_pattern(spec, origin);
  if (!pattern)
    return pattern.error();
  const auto name = json_fields::text(spec, "behavior", "Isolated");
  const auto behavior = parse_behavior(name);
  if (!behavior)
    return json_fields::malformed(origin, "unknown split behavior '" + name + "'");
  chain.steps.push_back(std::make_unique<pattern_split>(std::move(*pattern), *behavior,
                                                        json_fields::flag(spec, "invert", false)));
  return {};
}

caf::error add_metaspace(element spec, const std::string& origin, pre_tokenizer_chain& chain) {
  const auto mark = json_fields::text(spec, "replacement", "\u2581");
  // Files before version 0.15 of the package say add_prefix_space instead of prepend_scheme.
  const auto legacy = json_fields::flag(spec, "add_prefix_space", true) ? "always" : "never";
  const auto scheme = json_fields::text(spec, "prepend_scheme", legacy);
  auto pattern = regex::compile(mark, true, origin);
  if (!pattern || mark.empty())
    return json_fields::malformed(origin, "Metaspace needs a `replacement` character");
  chain.steps.push_back(std::make_unique<metaspace>(mark,
                                                    scheme == "always"  ? prepend_scheme::always
                                                    : scheme == "first" ? prepend_scheme::first
                                                                        : prepend_scheme::never,
                                                    json_fields::flag(spec, "split", true),
                                                    std::move(*pattern)));
  return {};
}

caf::error add_byte_level(element spec, const std::string& origin, pre_tokenizer_chain& chain) {
  if (json_fields::flag(spec, "add_prefix_space", true))
    chain.steps.push_back(std::make_unique<prefix_space>());
  if (json_fields::flag(spec, "use_regex", true))
    if (auto why = add_pattern(chain, gpt2_pattern, split_behavior::isolated, false, origin))
      return why;
  chain.byte_level = true;
  return {};
}

caf::error add_sequence(element spec, const std::string& origin, pre_tokenizer_chain& chain) {
  simdjson::dom::array list;
  const auto field = json_fields::find(spec, "pretokenizers");
  if (!field || field->get(list))
    return json_fields::malformed(origin, "a Sequence pre-tokenizer has no list `pretokenizers`");
  for (const auto child : list)
    if (auto why = add_pre_tokenizer(child, origin, chain))
      return why;
  return {};
}

} // namespace

std::vector<piece> pre_tokenizer_chain::run(piece whole, piece_arena& arena) const {
  std::vector<piece> pieces{whole}, next;
  for (const auto& step : steps) {
    next.clear();
    for (const auto& part : pieces)
      step->split(part, next, arena);
    pieces.swap(next);
  }
  return pieces;
}

caf::error add_pre_tokenizer(element spec, const std::string& origin, pre_tokenizer_chain& chain) {
  const auto type = json_fields::text(spec, "type");
  if (type == "Sequence")
    return add_sequence(spec, origin, chain);
  if (chain.byte_level) { // not the last step after all
    chain.byte_level = false;
    chain.steps.push_back(std::make_unique<byte_mapping>());
  }
  if (type == "ByteLevel")
    return add_byte_level(spec, origin, chain);
  if (type == "Split")
    return add_split(spec, origin, chain);
  if (type == "Metaspace")
    return add_metaspace(spec, origin, chain);
  if (type == "Whitespace") {
    chain.steps.push_back(std::make_unique<word_split>());
    return {};
  }
  if (type == "WhitespaceSplit") {
    chain.steps.push_back(
        std::make_unique<character_split>(utf8::is_whitespace, split_behavior::removed));
    return {};
  }
  if (type == "Digits") {
    const bool single = json_fields::flag(spec, "individual_digits", false);
    chain.steps.push_back(std::make_unique<character_split>(
        utf8::is_numeric, single ? split_behavior::isolated : split_behavior::contiguous));
    return {};
  }
  if (type == "Punctuation") {
    const auto behavior = parse_behavior(json_fields::text(spec, "behavior", "Isolated"));
    chain.steps.push_back(std::make_unique<character_split>(
        utf8::is_punctuation, behavior.value_or(split_behavior::isolated)));
    return {};
  }
  return caf::make_error(tokenizer_errc::unsupported,
                         origin + ": the pre-tokenizer '" + type + "' is not supported");
}

} // namespace troupe::engine

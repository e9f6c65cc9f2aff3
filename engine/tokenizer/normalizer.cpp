#include "engine/tokenizer/normalizer.hpp"

#include <cstdlib>
#include <vector>

#include <utf8proc.h>

#include "engine/tokenizer/pattern.hpp"
#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {

namespace {

using json_fields::element;

bool is_ascii(std::string_view text) {
  for (const char c : text)
    if (static_cast<uint8_t>(c) >= 0x80)
      return false;
  return true;
}

/// The four Unicode normalization forms.
class unicode_form final : public normalizer {
public:
  explicit unicode_form(int options) : options_{static_cast<utf8proc_option_t>(options)} {}
  std::string apply(std::string text) const override {
    if (is_ascii(text))
      return text;
    utf8proc_uint8_t* mapped = nullptr;
    const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &mapped, options_);
    if (size < 0)
      return text; // only out of memory: the input is valid UTF-8
    std::string out(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
    std::free(mapped);
    return out;
  }

private:
  utf8proc_option_t options_;
};

class lowercase final : public normalizer {
public:
  std::string apply(std::string text) const override {
    std::string out;
    out.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
      const auto c = utf8::next(text, at);
      if (c == 0x130) // the one character whose lower case is two
        out += "i\xcc\x87";
      else
        utf8::append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<int32_t>(c))));
    }
    return out;
  }
};

class strip_accents final : public normalizer {
public:
  std::string apply(std::string text) const override {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const auto c = utf8::next(text, at);
      if (utf8proc_category(static_cast<int32_t>(c)) != UTF8PROC_CATEGORY_MN)
        utf8::append(out, c);
    }
    return out;
  }
};

class strip final : public normalizer {
public:
  strip(bool left, bool right) : left_{left}, right_{right} {}
  std::string apply(std::string text) const override {
    size_t begin = 0, end = 0, first = std::string::npos;
    for (size_t at = 0; at < text.size();) {
      const size_t start = at;
      if (!utf8::is_whitespace(utf8::next(text, at))) {
        first = first == std::string::npos ? start : first;
        end = at;
      }
    }
    if (left_)
      begin = first == std::string::npos ? text.size() : first;
    if (!right_)
      end = text.size();
    return begin < end ? text.substr(begin, end - begin) : std::string{};
  }

private:
  bool left_, right_;
};

class prepend final : public normalizer {
public:
  explicit prepend(std::string prefix) : prefix_{std::move(prefix)} {}
  std::string apply(std::string text) const override {
    return text.empty() ? text : prefix_ + text;
  }

private:
  std::string prefix_;
};

class replace final : public normalizer {
public:
  replace(regex pattern, std::string content)
      : pattern_{std::move(pattern)}, content_{std::move(content)} {}
  std::string apply(std::string text) const override {
    return replace_all(pattern_, text, content_);
  }

private:
  regex pattern_;
  std::string content_;
};

class sequence final : public normalizer {
public:
  explicit sequence(std::vector<std::unique_ptr<const normalizer>> steps)
      : steps_{std::move(steps)} {}
  std::string apply(std::string text) const override {
    for (const auto& step : steps_)
      text = step->apply(std::move(text));
    return text;
  }

private:
  std::vector<std::unique_ptr<const normalizer>> steps_;
};

using result = caf::expected<std::unique_ptr<const normalizer>>;

template <class T, class... Ts>
result make(Ts&&... args) {
  return std::unique_ptr<const normalizer>{std::make_unique<T>(std::forward<Ts>(args)...)};
}

result make_sequence(element spec, const std::string& origin) {
  simdjson::dom::array list;
  const auto field = json_fields::find(spec, "normalizers");
  if (!field || field->get(list))
    return json_fields::malformed(origin, "a Sequence normalizer has no list `normalizers`");
  std::vector<std::unique_ptr<const normalizer>> steps;
  for (const auto child : list) {
    auto step = make_normalizer(child, origin);
    if (!step)
      return step.error();
    steps.push_back(std::move(*step));
  }
  return make<sequence>(std::move(steps));
}

} // namespace

result make_normalizer(element spec, const std::string& origin) {
  const auto type = json_fields::text(spec, "type");
  constexpr int stable = UTF8PROC_STABLE;
  if (type == "Sequence")
    return make_sequence(spec, origin);
  if (type == "NFC")
    return make<unicode_form>(stable | UTF8PROC_COMPOSE);
  if (type == "NFD")
    return make<unicode_form>(stable | UTF8PROC_DECOMPOSE);
  if (type == "NFKC")
    return make<unicode_form>(stable | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
  if (type == "NFKD")
    return make<unicode_form>(stable | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  if (type == "Lowercase")
    return make<lowercase>();
  if (type == "StripAccents")
    return make<strip_accents>();
  if (type == "Strip")
    return make<strip>(json_fields::flag(spec, "strip_left", true),
                       json_fields::flag(spec, "strip_right", true));
  if (type == "Prepend")
    return make<prepend>(json_fields::text(spec, "prepend"));
  if (type == "Replace") {
    auto pattern = make_pattern(spec, origin);
    if (!pattern)
      return pattern.error();
    return make<replace>(std::move(*pattern), json_fields::text(spec, "content"));
  }
  return caf::make_error(tokenizer_errc::unsupported,
                         origin + ": the normalizer '" + type + "' is not supported");
}

} // namespace troupe::engine

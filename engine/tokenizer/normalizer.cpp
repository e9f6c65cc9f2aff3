#include "engine/tokenizer/normalizer.hpp"

#include <vector>

#include <utf8proc.h>

#include "engine/tokenizer/pattern.hpp"
#include "engine/tokenizer/unicode_form.hpp"
#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {

namespace {

using json_fields::element;

class form_normalizer final : public normalizer {
public:
  explicit form_normalizer(unicode_form form) : form_{form} {}
  std::string apply(std::string text) const override { return to_form(form_, text); }

private:
  unicode_form form_;
};

/// Letter pairs that Unicode got after utf8proc's tables: what Rust's to_lowercase makes of them.
char32_t young_lower_case(char32_t c) {
  if (c >= 0x10d50 && c <= 0x10d65)
    return c + 0x20;
  if (c >= 0x16ea0 && c <= 0x16eb8)
    return c + 0x1b;
  switch (c) {
  case 0x1c89:
  case 0xa7cc:
  case 0xa7ce:
  case 0xa7d2:
  case 0xa7d4:
  case 0xa7da:
    return c + 1;
  case 0xa7cb:
    return 0x264;
  case 0xa7dc:
    return 0x19b;
  default:
    return c;
  }
}

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
        utf8::append(out, young_lower_case(
                              static_cast<char32_t>(utf8proc_tolower(static_cast<int32_t>(c)))));
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
      if (!is_mark(c))
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
  if (type == "Sequence")
    return make_sequence(spec, origin);
  if (type == "NFC")
    return make<form_normalizer>(unicode_form::nfc);
  if (type == "NFD")
    return make<form_normalizer>(unicode_form::nfd);
  if (type == "NFKC")
    return make<form_normalizer>(unicode_form::nfkc);
  if (type == "NFKD")
    return make<form_normalizer>(unicode_form::nfkd);
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

#include "engine/chat_template/lexer.hpp"

#include "engine/chat_template/failure.hpp"
#include "engine/chat_template/literals.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

struct operator_name {
  std::string_view text;
  token_type type;
};

// Longer ones first: the first that fits is taken.
constexpr operator_name operators[] = {
    {"//", token_type::floordiv}, {"**", token_type::pow},      {"==", token_type::eq},
    {"!=", token_type::ne},       {">=", token_type::ge},       {"<=", token_type::le},
    {"+", token_type::add},       {"-", token_type::sub},       {"/", token_type::div},
    {"*", token_type::mul},       {"%", token_type::mod},       {"~", token_type::tilde},
    {"[", token_type::lbracket},  {"]", token_type::rbracket},  {"(", token_type::lparen},
    {")", token_type::rparen},    {"{", token_type::lbrace},    {"}", token_type::rbrace},
    {">", token_type::gt},        {"<", token_type::lt},        {"=", token_type::assign},
    {".", token_type::dot},       {":", token_type::colon},     {"|", token_type::pipe},
    {",", token_type::comma},     {";", token_type::semicolon},
};

/// One newline convention, and no newline at the very end.
std::string normalize(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n')
      ++i;
  }
  if (!out.empty() && out.back() == '\n')
    out.pop_back();
  return out;
}

class lexer {
public:
  explicit lexer(std::string_view source) : source_{normalize(source)}, rest_{source_} {}

  std::vector<token> run() {
    while (at_ < rest_.size())
      root();
    emit(token_type::eof);
    return std::move(tokens_);
  }

private:
  bool starts(std::string_view what, size_t at) const { return rest_.substr(at).starts_with(what); }
  bool starts(std::string_view what) const { return starts(what, at_); }

  [[noreturn]] void error(const std::string& text) const {
    fail_at(template_errc::syntax, line_, text);
  }

  void emit(token_type type, std::string text = {}) {
    tokens_.push_back({type, line_, std::move(text), 0, 0});
  }

  /// Moves to `to`, counting lines.
  void advance(size_t to) {
    for (; at_ < to; ++at_)
      line_ += rest_[at_] == '\n' ? 1 : 0;
  }

  size_t skip_space(size_t at) const {
    while (at < rest_.size()) {
      size_t next = at;
      if (!is_space(next_point(rest_, next)))
        break;
      at = next;
    }
    return at;
  }

  /// Where the next "{{", "{%" or "{#" is.
  size_t find_tag() const {
    for (size_t at = rest_.find('{', at_); at != rest_.npos; at = rest_.find('{', at + 1))
      if (at + 1 < rest_.size() &&
          std::string_view("{%#").find(rest_[at + 1]) != std::string_view::npos)
        return at;
    return rest_.npos;
  }

  /// The text before a tag, without what the tag's sign or lstrip_blocks takes away.
  std::string_view trimmed(std::string_view text, char sign, bool variable) const {
    if (sign == '-')
      return strip_space(text, false, true);
    if (sign == '+' || variable)
      return text;
    const size_t line_start = text.rfind('\n') + 1; // npos + 1 is 0
    const auto indent = text.substr(line_start);
    if ((line_start > 0 || line_starting_) && !indent.empty() &&
        strip_space(indent, true, false).empty())
      return text.substr(0, line_start);
    return text;
  }

  void data(std::string_view text) {
    if (!text.empty())
      emit(token_type::data, std::string(text));
  }

  char sign_at(size_t at) const {
    return at < rest_.size() && (rest_[at] == '-' || rest_[at] == '+') ? rest_[at] : ' ';
  }

  /// If a raw block begins at `tag`: where its content starts; npos otherwise.
  size_t raw_start(size_t tag) const {
    size_t at = skip_space(tag + 2 + (sign_at(tag + 2) != ' ' ? 1 : 0));
    if (!starts("raw", at))
      return rest_.npos;
    at = skip_space(at + 3);
    if (starts("-%}", at))
      return skip_space(at + 3);
    return starts("%}", at) ? at + 2 : rest_.npos;
  }

  void root() {
    const size_t tag = find_tag();
    if (tag == rest_.npos) {
      data(rest_.substr(at_));
      advance(rest_.size());
      return;
    }
    const char kind = rest_[tag + 1];
    const char sign = sign_at(tag + 2);
    data(trimmed(rest_.substr(at_, tag - at_), sign, kind == '{'));
    const size_t raw = kind == '%' ? raw_start(tag) : rest_.npos;
    advance(raw != rest_.npos ? raw : tag + 2 + (sign != ' ' ? 1 : 0));
    line_starting_ = rest_[at_ - 1] == '\n';
    if (raw != rest_.npos)
      raw_block();
    else if (kind == '#')
      comment();
    else
      inside(kind == '%');
  }

  /// If a closing mark (its second character `last`) is at `at`: where the text goes on after it.
  size_t close_at(size_t at, char first, char last, bool plus) const {
    const char mark[] = {first, last, 0};
    if (starts("-", at) && starts(mark, at + 1))
      return skip_space(at + 3);
    if (plus && starts("+", at) && starts(mark, at + 1))
      return at + 3;
    if (!starts(mark, at))
      return rest_.npos;
    return plus && starts("\n", at + 2) ? at + 3 : at + 2; // trim_blocks; never after "}}"
  }

  void close(size_t to) {
    advance(to);
    line_starting_ = rest_[to - 1] == '\n';
  }

  void comment() {
    for (size_t at = at_; at < rest_.size(); ++at) {
      if (rest_[at] != '#' && rest_[at] != '-' && rest_[at] != '+')
        continue;
      if (const size_t end = close_at(at, '#', '}', true); end != rest_.npos)
        return close(end);
    }
    error("Missing end of comment tag");
  }

  void raw_block() {
    for (size_t at = rest_.find("{%", at_); at != rest_.npos; at = rest_.find("{%", at + 1)) {
      const char sign = sign_at(at + 2);
      size_t word = skip_space(at + 2 + (sign != ' ' ? 1 : 0));
      if (!starts("endraw", word))
        continue;
      const size_t end = close_at(skip_space(word + 6), '%', '}', true);
      if (end == rest_.npos)
        continue;
      data(trimmed(rest_.substr(at_, at - at_), sign, false));
      return close(end);
    }
    error("Missing end of raw directive");
  }

  void inside(bool block) {
    emit(block ? token_type::block_begin : token_type::variable_begin);
    std::string open;
    while (at_ < rest_.size()) {
      if (open.empty())
        if (const size_t end = close_at(at_, block ? '%' : '}', '}', block); end != rest_.npos) {
          emit(block ? token_type::block_end : token_type::variable_end);
          return close(end);
        }
      if (const size_t next = skip_space(at_); next != at_)
        advance(next);
      else
        one_token(open);
    }
  }

  void one_token(std::string& open) {
    number_literal number;
    if (const size_t size = scan_number(rest_, at_, number)) {
      if (number.overflow)
        error("the number " + std::string(rest_.substr(at_, size)) + " does not fit in 64 bits");
      emit(number.is_real ? token_type::real : token_type::integer);
      tokens_.back().integer = number.integer;
      tokens_.back().real = number.real;
      advance(at_ + size);
    } else if (const size_t word = scan_word(); word > at_) {
      emit(token_type::name, std::string(rest_.substr(at_, word - at_)));
      advance(word);
    } else if (rest_[at_] == '"' || rest_[at_] == '\'') {
      string_token();
    } else {
      operator_token(open);
    }
  }

  size_t scan_word() const {
    size_t at = at_;
    while (at < rest_.size()) {
      size_t next = at;
      if (!is_word(next_point(rest_, next)))
        break;
      at = next;
    }
    return at;
  }

  void string_token() {
    const char mark = rest_[at_];
    size_t end = at_ + 1;
    while (end < rest_.size() && rest_[end] != mark)
      end += rest_[end] == '\\' ? 2 : 1;
    if (end >= rest_.size())
      error(std::string("unexpected char ") + mark + ": the string is never closed");
    std::string problem;
    emit(token_type::string, unescape(rest_.substr(at_ + 1, end - at_ - 1), problem));
    if (!problem.empty())
      error(problem);
    advance(end + 1);
  }

  void operator_token(std::string& open) {
    for (const auto& candidate : operators) {
      if (!starts(candidate.text))
        continue;
      const char c = candidate.text[0];
      if (c == '(' || c == '[' || c == '{') {
        open += c == '(' ? ')' : c == '[' ? ']' : '}';
      } else if (c == ')' || c == ']' || c == '}') {
        if (open.empty())
          error(std::string("unexpected '") + c + "'");
        if (open.back() != c)
          error(std::string("unexpected '") + c + "', expected '" + open.back() + "'");
        open.pop_back();
      }
      emit(candidate.type);
      advance(at_ + candidate.text.size());
      return;
    }
    size_t next = at_;
    next_point(rest_, next);
    error("unexpected char '" + std::string(rest_.substr(at_, next - at_)) + "'");
  }

  std::string source_;
  std::string_view rest_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  bool line_starting_ = true;
  std::vector<token> tokens_;
};

} // namespace

std::vector<token> tokenize(std::string_view source) { return lexer{source}.run(); }

std::string describe(token_type type) {
  switch (type) {
  case token_type::data:
    return "template text";
  case token_type::variable_begin:
    return "begin of print statement";
  case token_type::variable_end:
    return "end of print statement";
  case token_type::block_begin:
    return "begin of statement block";
  case token_type::block_end:
    return "end of statement block";
  case token_type::name:
    return "name";
  case token_type::string:
    return "string";
  case token_type::integer:
    return "integer";
  case token_type::real:
    return "float";
  case token_type::eof:
    return "end of template";
  default:
    for (const auto& candidate : operators)
      if (candidate.type == type)
        return std::string(candidate.text);
    return "token";
  }
}

std::string describe(const token& x) {
  return x.type == token_type::name ? x.text : describe(x.type);
}

} // namespace troupe::engine::jinja

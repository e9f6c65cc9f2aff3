#include "engine/chat_template/parser.hpp"

#include <algorithm>

#include "engine/chat_template/parser_base.hpp"

namespace troupe::engine::jinja {

namespace {

class parser : expression_parser {
public:
  explicit parser(std::string_view source) : expression_parser{source} {}

  block run() {
    block body = parse_block({});
    if (!is(token_type::eof))
      unknown_tag({});
    return body;
  }

private:
  using end_tags = std::initializer_list<std::string_view>;

  bool at_tag(end_tags tags) const {
    return std::any_of(tags.begin(), tags.end(), [&](auto tag) { return is_name(tag); });
  }

  [[noreturn]] void unknown_tag(end_tags wanted) const {
    std::string text = is(token_type::eof)
                           ? "Unexpected end of template."
                           : "Encountered unknown tag '" + describe(current()) + "'.";
    std::string list;
    for (auto tag : wanted)
      list += (list.empty() ? "'" : " or '") + std::string(tag) + "'";
    if (!list.empty())
      text += " Jinja was looking for the following tags: " + list + ".";
    error(text);
  }

  static stmt_ptr make(stmt_kind kind, uint32_t line) {
    auto out = std::make_unique<stmt>();
    out->kind = kind;
    out->line = line;
    return out;
  }

  /// Statements up to one of `ends`, which stays the current token, its tag just opened; up to the
  /// end of the template when there are none.
  block parse_block(end_tags ends) {
    const nesting guard{*this};
    block body;
    while (!is(token_type::eof)) {
      if (is(token_type::data)) {
        auto text = make(stmt_kind::text, current().line);
        text->text = take().text;
        body.push_back(std::move(text));
      } else if (is(token_type::variable_begin)) {
        auto print = make(stmt_kind::print, take().line);
        print->subject = parse_tuple();
        expect(token_type::variable_end);
        body.push_back(std::move(print));
      } else {
        expect(token_type::block_begin);
        if (ends.size() > 0 && at_tag(ends))
          return body;
        parse_statement(body, ends);
        expect(token_type::block_end);
      }
    }
    if (ends.size() > 0)
      unknown_tag(ends);
    return body;
  }

  /// The body of a statement: closes the opening tag and, with `drop`, takes the end's name.
  block parse_body(end_tags ends, bool drop) {
    skip(token_type::colon);
    expect(token_type::block_end);
    block body = parse_block(ends);
    if (drop)
      take();
    return body;
  }

  void parse_statement(block& body, end_tags ends) {
    if (!is(token_type::name))
      error("tag name expected");
    const std::string& tag = current().text;
    if (tag == "if")
      body.push_back(parse_if());
    else if (tag == "for")
      body.push_back(parse_for());
    else if (tag == "set")
      body.push_back(parse_set());
    else if (tag == "macro")
      body.push_back(parse_macro());
    else if (tag == "call")
      body.push_back(parse_call_block());
    else if (tag == "filter")
      body.push_back(parse_filter_block());
    else if (tag == "with")
      body.push_back(parse_with());
    else if (tag == "generation")
      body.push_back(parse_generation());
    else if (tag == "print")
      parse_print(body);
    else if (tag == "break" || tag == "continue")
      body.push_back(parse_jump());
    else
      refuse_tag(ends);
  }

  [[noreturn]] void refuse_tag(end_tags ends) const {
    for (std::string_view tag : {"include", "import", "from", "extends", "block", "autoescape"})
      if (is_name(tag))
        fail_at(template_errc::unsupported, current().line,
                "the tag '" + std::string(tag) +
                    "' is not supported: a chat template must be one self-contained file");
    unknown_tag(ends);
  }

  stmt_ptr parse_if() {
    auto out = make(stmt_kind::branch, take().line);
    for (;;) {
      auto condition = parse_tuple(false);
      auto body = parse_body({"elif", "else", "endif"}, false);
      out->arms.emplace_back(std::move(condition), std::move(body));
      const std::string tag = take().text;
      if (tag == "elif")
        continue;
      if (tag == "else")
        out->otherwise = parse_body({"endif"}, true);
      return out;
    }
  }

  stmt_ptr parse_for() {
    auto out = make(stmt_kind::loop, take().line);
    out->target = parse_target({"in"});
    expect_name("in");
    out->subject = parse_tuple(false, {"recursive"});
    if (skip_name("if"))
      out->condition = parse_expression();
    out->recursive = skip_name("recursive");
    ++loops_;
    out->body = parse_body({"endfor", "else"}, false);
    --loops_;
    if (take().text == "else")
      out->otherwise = parse_body({"endfor"}, true);
    return out;
  }

  stmt_ptr parse_set() {
    const uint32_t line = take().line;
    auto target = parse_target({}, true);
    const bool inline_value = skip(token_type::assign);
    auto out = make(inline_value ? stmt_kind::assign : stmt_kind::assign_block, line);
    out->target = std::move(target);
    if (inline_value) {
      out->subject = parse_tuple();
      return out;
    }
    out->subject = parse_filters(nullptr, false);
    out->body = parse_body({"endset"}, true);
    return out;
  }

  std::unique_ptr<function_body> parse_signature() {
    auto out = std::make_unique<function_body>();
    expect(token_type::lparen);
    while (!is(token_type::rparen)) {
      if (!out->parameters.empty())
        expect(token_type::comma);
      const uint32_t line = current().line;
      parameter next{parse_name_target(), nullptr, 0};
      for (const auto& other : out->parameters)
        if (other.name == next.name)
          error("duplicate argument '" + next.name + "' in function definition", line);
      if (skip(token_type::assign))
        next.fallback = parse_expression();
      else if (!out->parameters.empty() && out->parameters.back().fallback)
        error("non-default argument follows default argument");
      out->parameters.push_back(std::move(next));
    }
    expect(token_type::rparen);
    return out;
  }

  /// A loop can be left only from its own function.
  class outside_loop {
  public:
    explicit outside_loop(parser& owner) : owner_{owner}, loops_{owner.loops_} { owner.loops_ = 0; }
    ~outside_loop() { owner_.loops_ = loops_; }

  private:
    parser& owner_;
    uint32_t loops_;
  };

  stmt_ptr parse_macro() {
    auto out = make(stmt_kind::macro, take().line);
    out->text = parse_name_target();
    out->function = parse_signature();
    const outside_loop guard{*this};
    out->function->body = parse_body({"endmacro"}, true);
    return out;
  }

  stmt_ptr parse_call_block() {
    auto out = make(stmt_kind::call_block, take().line);
    out->function = is(token_type::lparen) ? parse_signature() : std::make_unique<function_body>();
    out->subject = parse_expression();
    if (out->subject->kind != expr_kind::call)
      error("expected call", out->line);
    const outside_loop guard{*this};
    out->function->body = parse_body({"endcall"}, true);
    return out;
  }

  stmt_ptr parse_generation() {
    auto out = make(stmt_kind::generation, take().line);
    out->function = std::make_unique<function_body>();
    const outside_loop guard{*this};
    out->function->body = parse_body({"endgeneration"}, true);
    return out;
  }

  stmt_ptr parse_filter_block() {
    auto out = make(stmt_kind::filter_block, take().line);
    out->subject = parse_filters(nullptr, true);
    out->body = parse_body({"endfilter"}, true);
    return out;
  }

  stmt_ptr parse_with() {
    auto out = make(stmt_kind::with, take().line);
    while (!is(token_type::block_end)) {
      if (!out->bindings.empty())
        expect(token_type::comma);
      auto target = parse_target();
      expect(token_type::assign);
      auto subject = parse_expression();
      out->bindings.emplace_back(std::move(target), std::move(subject));
    }
    out->body = parse_body({"endwith"}, true);
    return out;
  }

  void parse_print(block& body) {
    const uint32_t line = take().line;
    for (bool first = true; !is(token_type::block_end); first = false) {
      if (!first)
        expect(token_type::comma);
      auto out = make(stmt_kind::print, line);
      out->subject = parse_expression();
      body.push_back(std::move(out));
    }
  }

  stmt_ptr parse_jump() {
    const auto& tag = take();
    if (loops_ == 0)
      error("'" + tag.text + "' outside of a loop", tag.line);
    return make(tag.text == "break" ? stmt_kind::stop : stmt_kind::next, tag.line);
  }

  uint32_t loops_ = 0;
};

} // namespace

program parse(std::string_view source) {
  program out;
  out.body = parser{source}.run();
  return out;
}

} // namespace troupe::engine::jinja

#pragma once
#include <initializer_list>
#include <string_view>
#include <vector>

#include "engine/chat_template/ast.hpp"
#include "engine/chat_template/lexer.hpp"

namespace troupe::engine::jinja {

/// How deep expressions and blocks may nest, and how tall an expression may grow (a long chain of
/// operators is tall too).
constexpr uint32_t parse_nesting_max = 150;
constexpr uint32_t expression_height_max = 400;

/// A cursor over the tokens and the grammar of expressions; the statements build on it.
class expression_parser {
protected:
  explicit expression_parser(std::string_view source) : tokens_{tokenize(source)} {}

  /// What may end a tuple that has no parentheses, beside the end of the tag.
  using stop_words = std::initializer_list<std::string_view>;

  expr_ptr parse_expression(bool with_condition = true);
  expr_ptr parse_tuple(bool with_condition = true, stop_words stops = {});
  expr_ptr parse_target(stop_words stops = {}, bool with_space = false);
  expr_ptr parse_filters(expr_ptr node, bool inline_start);
  std::string parse_name_target();

  const token& current() const { return tokens_[at_]; }
  const token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  const token& take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is(token_type type) const { return current().type == type; }
  bool is_name(std::string_view name) const {
    return is(token_type::name) && current().text == name;
  }
  bool skip(token_type type);
  bool skip_name(std::string_view name);
  const token& expect(token_type type);
  void expect_name(std::string_view name);
  [[noreturn]] void error(const std::string& text) const { error(text, current().line); }
  [[noreturn]] void error(const std::string& text, uint32_t line) const {
    fail_at(template_errc::syntax, line, text);
  }

  /// Counts how deep the parser has called itself.
  class nesting {
  public:
    explicit nesting(expression_parser& owner);
    ~nesting() { --owner_.depth_; }

  private:
    expression_parser& owner_;
  };

private:
  expr_ptr make(expr_kind kind, uint32_t line, std::vector<expr_ptr> parts = {});
  expr_ptr unary(expr_kind kind, uint32_t line, expr_ptr part);
  expr_ptr binary(expr_kind kind, uint32_t line, expr_ptr left, expr_ptr right);
  expr_ptr constant(uint32_t line, value x);
  void grow(expr& node, const expr* part);

  expr_ptr parse_condition();
  expr_ptr parse_or();
  expr_ptr parse_and();
  expr_ptr parse_not();
  expr_ptr parse_compare();
  expr_ptr parse_sum();
  expr_ptr parse_concat();
  expr_ptr parse_product();
  expr_ptr parse_power();
  expr_ptr parse_unary(bool with_filter = true);
  expr_ptr parse_primary(bool with_space = false);
  expr_ptr parse_name(bool with_space);
  expr_ptr parse_parenthesized();
  expr_ptr parse_list();
  expr_ptr parse_dict();
  expr_ptr parse_postfix(expr_ptr node);
  expr_ptr parse_filter_expr(expr_ptr node);
  expr_ptr parse_subscript(expr_ptr node);
  expr_ptr parse_subscribed();
  expr_ptr parse_call(expr_ptr node);
  expr_ptr parse_test(expr_ptr node);
  void parse_arguments(expr& node);
  void parse_argument(expr& node, uint32_t line);
  expr_ptr collect_tuple(bool with_condition, stop_words stops, bool parenthesized, bool simple,
                         bool with_space);
  bool at_tuple_end(stop_words stops) const;
  void mark_stored(expr& node) const;

  std::vector<token> tokens_;
  size_t at_ = 0;
  uint32_t depth_ = 0;
};

} // namespace troupe::engine::jinja

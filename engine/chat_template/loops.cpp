// The for statement and its loop variable.
#include <algorithm>

#include "engine/chat_template/operators.hpp"
#include "engine/chat_template/runtime.hpp"

namespace troupe::engine::jinja {

namespace {

/// The loop variable. It reads one item ahead only when asked (loop.last, loop.nextitem), because
/// a template can see when the items of a generator or of a filtered loop are computed.
class loop_object : public callable_object {
public:
  loop_object(runtime& rt, const value& source, const stmt* again, environment_ptr scope,
              int64_t depth)
      : rt_{rt}, source_{source}, items_{rt, source}, again_{again}, scope_{std::move(scope)},
        depth0_{depth} {
    name = "LoopContext";
  }

  std::optional<value> advance() {
    std::optional<value> item = ahead_ ? std::move(ahead_) : items_.next();
    ahead_.reset();
    if (!item)
      return item;
    ++index0_;
    before_ = std::move(current_);
    current_ = *item;
    return item;
  }

  value call(runtime& rt, call_values& arguments) override {
    if (!again_)
      fail("The loop must have the 'recursive' marker to be called recursively.");
    auto bound = bind_arguments(arguments, "loop", {"iterable"}, 1);
    std::string out;
    rt.run_loop(*again_, bound[0], scope_, depth0_ + 1, out);
    return rt.text(std::move(out));
  }

  std::optional<int64_t> length() override {
    if (length_)
      return length_;
    if (!source_.is(kind::iterator)) {
      length_ = length_of(source_);
      return length_;
    }
    std::vector<value> rest;
    while (auto item = items_.next())
      rest.push_back(std::move(*item));
    length_ = static_cast<int64_t>(rest.size()) + index0_ + 1 + (ahead_ ? 1 : 0);
    items_ = cursor{rt_, rt_.list(std::move(rest))};
    return length_;
  }

  value attribute(runtime&, std::string_view name) override {
    if (name == "index")
      return value::integer(index0_ + 1);
    if (name == "index0")
      return value::integer(index0_);
    if (name == "first")
      return value::boolean(index0_ == 0);
    if (name == "last")
      return value::boolean(!peek());
    if (name == "length")
      return value::integer(*length());
    if (name == "revindex")
      return value::integer(*length() - index0_);
    if (name == "revindex0")
      return value::integer(*length() - index0_ - 1);
    if (name == "depth")
      return value::integer(depth0_ + 1);
    if (name == "depth0")
      return value::integer(depth0_);
    if (name == "previtem")
      return index0_ == 0 ? value::undefined("there is no previous item") : before_;
    if (name == "nextitem")
      return peek() ? *ahead_ : value::undefined("there is no next item");
    return method(name);
  }

private:
  bool peek() {
    if (!ahead_)
      ahead_ = items_.next();
    return ahead_.has_value();
  }

  value method(std::string_view name) {
    // The loop variable outlives these: they are bound to the iteration that names them.
    if (name == "cycle")
      return make_callable("cycle", [at = index0_](runtime&, call_values& arguments) {
        if (arguments.positional.empty())
          fail("no items for cycling given");
        return arguments.positional[static_cast<size_t>(at) % arguments.positional.size()];
      });
    if (name == "changed")
      return make_callable("changed", [last = last_](runtime&, call_values& arguments) {
        value now = value::tuple(arguments.positional);
        const bool same = equal(*last, now);
        *last = std::move(now);
        return value::boolean(!same);
      });
    return {};
  }

  runtime& rt_;
  value source_;
  cursor items_;
  const stmt* again_;
  environment_ptr scope_;
  int64_t depth0_;
  int64_t index0_ = -1;
  std::optional<int64_t> length_;
  std::optional<value> ahead_;
  value before_, current_;
  std::shared_ptr<value> last_ = std::make_shared<value>();
};

} // namespace

/// The items that the loop's own condition lets through, tested as the loop comes to them.
value runtime::loop_source(const stmt& node, const value& source, const environment_ptr& scope) {
  if (!node.condition)
    return source;
  const auto inner = enter(node.inner_test, scope);
  auto items = std::make_shared<cursor>(*this, source);
  return make_iterator(source.depth(), [this, &node, inner, items]() -> std::optional<value> {
    while (auto item = items->next()) {
      assign(*node.test_target, *item, *inner);
      if (truthy(evaluate(*node.condition, *inner)))
        return item;
    }
    return std::nullopt;
  });
}

flow runtime::run_loop(const stmt& node, const value& source, const environment_ptr& scope,
                       int64_t depth, std::string& out) {
  const nesting guard{*this};
  const value items = loop_source(node, source, scope);
  std::shared_ptr<loop_object> loop;
  std::optional<cursor> plain;
  if (node.uses_loop)
    loop =
        std::make_shared<loop_object>(*this, items, node.recursive ? &node : nullptr, scope, depth);
  else
    plain.emplace(*this, items);
  bool finished_one = false;
  environment_ptr inner;
  while (auto item = loop ? loop->advance() : plain->next()) {
    if (inner && inner.use_count() == 1)
      fill(*inner, node.inner); // nothing captured the last iteration's variables
    else
      inner = enter(node.inner, scope);
    if (loop)
      inner->slots[node.loop_slot] = value::of(kind::callable, loop);
    assign(*node.target, std::move(*item), *inner);
    const flow how = execute(node.body, inner, out);
    if (how == flow::stop)
      break;
    finished_one =
        finished_one || how == flow::normal; // as Jinja has it: "continue" does not count
  }
  if (finished_one || node.otherwise.empty())
    return flow::normal;
  return execute(node.otherwise, enter(node.inner_else, scope), out);
}

} // namespace troupe::engine::jinja

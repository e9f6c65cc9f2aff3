#include "engine/chat_template/symbols.hpp"

namespace troupe::engine::jinja {

namespace {

template <class Visit>
void each_argument(const call_arguments* arguments, Visit visit) {
  if (!arguments)
    return;
  for (const auto& x : arguments->positional)
    visit(x.get());
  for (const auto& [name, x] : arguments->named)
    visit(x.get());
  visit(arguments->star.get());
  visit(arguments->star_star.get());
}

/// Walks everything below a block in the order in which Jinja's visitor does.
class undeclared_search {
public:
  explicit undeclared_search(const std::string& name) : name_{name} {}
  enum class answer { open, read, assigned };
  answer found() const { return found_; }

  void walk(const block& body) {
    for (const auto& node : body)
      walk(*node);
  }

private:
  void walk(const expr* node) {
    if (!node || found_ != answer::open)
      return;
    if (node->kind == expr_kind::name && node->text == name_) {
      found_ = node->stored ? answer::assigned : answer::read;
      return;
    }
    for (const auto& part : node->parts)
      walk(part.get());
    each_argument(node->arguments.get(), [&](const expr* x) { walk(x); });
  }

  void walk(const function_body& function) {
    for (const auto& parameter : function.parameters)
      if (parameter.name == name_ && found_ == answer::open)
        found_ = answer::assigned;
    for (const auto& parameter : function.parameters)
      walk(parameter.fallback.get());
    walk(function.body);
  }

  void walk(const stmt& node) {
    if (found_ != answer::open)
      return;
    walk(node.target.get());
    walk(node.subject.get());
    for (const auto& [condition, body] : node.arms) {
      walk(condition.get());
      walk(body);
    }
    for (const auto& binding : node.bindings)
      walk(binding.first.get());
    for (const auto& binding : node.bindings)
      walk(binding.second.get());
    if (node.function)
      walk(*node.function);
    walk(node.body);
    walk(node.otherwise);
    walk(node.condition.get());
  }

  const std::string& name_;
  answer found_ = answer::open;
};

} // namespace

bool reads_undeclared(const block& body, const std::string& name) {
  undeclared_search search{name};
  search.walk(body);
  return search.found() == undeclared_search::answer::read;
}

symbols symbols::branch_of(const symbols* base) {
  symbols out{base->parent_};
  out.base_ = base;
  return out;
}

const load_kind* symbols::find_own(const std::string& name) const {
  for (const symbols* at = this; at; at = at->base_)
    if (const auto found = at->loads_.find(name); found != at->loads_.end())
      return &found->second;
  return nullptr;
}

bool symbols::is_stored(const std::string& name) const {
  for (const symbols* at = this; at; at = at->base_)
    if (at->stores_.contains(name))
      return true;
  return false;
}

bool symbols::is_known(const std::string& name) const {
  return find_own(name) || known_outside(name);
}

bool symbols::known_outside(const std::string& name) const {
  return parent_ && parent_->is_known(name);
}

void symbols::load(const std::string& name) {
  if (!is_known(name))
    loads_[name] = load_kind::resolve;
}

void symbols::store(const std::string& name) {
  stores_.insert(name);
  if (!find_own(name))
    loads_[name] = known_outside(name) ? load_kind::alias : load_kind::undefined;
}

void symbols::declare_parameter(const std::string& name) {
  stores_.insert(name);
  loads_[name] = load_kind::parameter;
}

void symbols::merge(std::initializer_list<const symbols*> branches) {
  std::set<std::string> stored;
  for (const symbols* branch : branches)
    for (const auto& name : branch->stores_)
      if (!is_stored(name))
        stored.insert(name);
  for (const symbols* branch : branches) {
    for (const auto& [name, kind] : branch->loads_)
      loads_[name] = kind;
    stores_.insert(branch->stores_.begin(), branch->stores_.end());
  }
  // Which branch runs is not known, so such a variable must start with what it is outside.
  for (const auto& name : stored)
    loads_[name] = known_outside(name) ? load_kind::alias : load_kind::resolve;
}

void symbols::visit(const call_arguments* arguments) {
  each_argument(arguments, [&](const expr* x) { visit(x); });
}

void symbols::visit(const expr* node, bool as_parameter) {
  if (!node)
    return;
  if (node->kind == expr_kind::name) {
    if (as_parameter)
      declare_parameter(node->text);
    else if (node->stored)
      store(node->text);
    else
      load(node->text);
    return;
  }
  for (const auto& part : node->parts)
    visit(part.get(), as_parameter);
  visit(node->arguments.get());
}

void symbols::visit(const block& body) {
  for (const auto& node : body)
    visit(*node);
}

void symbols::visit(const function_body& function) {
  for (const auto& parameter : function.parameters)
    declare_parameter(parameter.name);
  for (const auto& parameter : function.parameters)
    visit(parameter.fallback.get());
  visit(function.body);
}

void symbols::visit_branch(const stmt& node) { visit_arms(node, 0); }

/// One `if` with its body; every elif counts as an `if` inside the previous one's elif branch.
void symbols::visit_arms(const stmt& node, size_t from) {
  visit(node.arms[from].first.get());
  symbols body = branch_of(this), elifs = branch_of(this), otherwise = branch_of(this);
  body.visit(node.arms[from].second);
  if (from == 0) {
    for (size_t i = 1; i < node.arms.size(); ++i)
      elifs.visit_arms(node, i);
    otherwise.visit(node.otherwise);
  }
  merge({&body, &elifs, &otherwise});
}

/// Inner scopes are not entered: only what a statement does in the scope that holds it.
void symbols::visit(const stmt& node) {
  switch (node.kind) {
  case stmt_kind::text:
  case stmt_kind::generation:
  case stmt_kind::stop:
  case stmt_kind::next:
    return;
  case stmt_kind::branch:
    return visit_branch(node);
  case stmt_kind::macro:
    return store(node.text);
  case stmt_kind::with:
    for (const auto& binding : node.bindings)
      visit(binding.second.get());
    return;
  default: // the value first: "set x = x" reads the outer x
    visit(node.subject.get());
    if (node.kind != stmt_kind::loop)
      visit(node.target.get());
  }
}

scope symbols::finish() {
  scope out;
  for (const auto& [name, kind] : loads_) {
    index_[name] = static_cast<uint32_t>(out.variables.size());
    variable next{name, kind, {}};
    if (kind == load_kind::alias) {
      next.outer = parent_->place(name);
      ++next.outer.hops;
    }
    out.variables.push_back(std::move(next));
  }
  return out;
}

slot_ref symbols::place(const std::string& name) const {
  slot_ref out;
  for (const symbols* at = this; at; at = at->parent_, ++out.hops)
    if (const auto found = at->index_.find(name); found != at->index_.end()) {
      out.index = found->second;
      return out;
    }
  fail_at(template_errc::syntax, 0, "the variable '" + name + "' has no place"); // cannot happen
}

} // namespace troupe::engine::jinja

#pragma once
#include <map>
#include <set>
#include <string>
#include <unordered_map>

#include "engine/chat_template/ast.hpp"

namespace troupe::engine::jinja {

/// Collects which names one scope reads and writes, in reading order, and from that how each
/// variable starts: Jinja decides this when it compiles, and templates can see the difference.
class symbols {
public:
  explicit symbols(const symbols* parent) : parent_{parent} {}

  void load(const std::string& name);
  void store(const std::string& name);
  void declare_parameter(const std::string& name);

  void visit(const block& body);
  void visit(const expr* node, bool as_parameter = false);
  /// A parameter list with its defaults, then the body.
  void visit(const function_body& function);

  /// Fixes the layout. After this the scope can be asked for places but not changed.
  scope finish();
  /// Where `name` lives as seen from this scope. The name must have been visited.
  slot_ref place(const std::string& name) const;

private:
  static symbols branch_of(const symbols* base);
  void merge(std::initializer_list<const symbols*> branches);
  void visit(const stmt& node);
  void visit_branch(const stmt& node);
  void visit_arms(const stmt& node, size_t from);
  void visit(const call_arguments* arguments);

  const load_kind* find_own(const std::string& name) const;
  bool is_stored(const std::string& name) const;
  bool is_known(const std::string& name) const;
  bool known_outside(const std::string& name) const;

  const symbols* parent_;
  /// Inside a branch: the scope as it was before the branch.
  const symbols* base_ = nullptr;
  std::map<std::string, load_kind> loads_;
  std::set<std::string> stores_;
  std::unordered_map<std::string, uint32_t> index_;
};

/// Whether `body` reads `name` before it assigns it.
bool reads_undeclared(const block& body, const std::string& name);

} // namespace troupe::engine::jinja

#include "engine/model/module_names.hpp"

#include <algorithm>

namespace troupe::engine {

namespace {

bool means(std::string_view name, std::string_view module) {
  if (name.empty() || name.size() > module.size())
    return false;
  const auto rest = module.size() - name.size();
  return (module.starts_with(name) && (rest == 0 || module[name.size()] == '.')) ||
         (rest > 0 && module.ends_with(name) && module[rest - 1] == '.');
}

} // namespace

module_names::module_names(const std::vector<std::string>& names) {
  constexpr std::string_view mark = "re:";
  for (const auto& name : names) {
    if (!name.starts_with(mark)) {
      names_.push_back(name);
      continue;
    }
    const auto pattern = "\\A(?:" + name.substr(mark.size()) + ")";
    if (auto compiled = regex::compile(pattern, false, "quantization_config"))
      patterns_.push_back(std::move(*compiled));
  }
}

bool module_names::contain(std::string_view module) const {
  return std::ranges::any_of(names_, [&](const auto& x) { return means(x, module); }) ||
         std::ranges::any_of(patterns_, [&](const auto& x) { return bool{x.find(module, 0)}; });
}

} // namespace troupe::engine

#include "base/error.hpp"

#include <caf/atom.hpp>
#include <caf/message.hpp>

namespace troupe {

std::string describe(const caf::error& why) {
  if (!why)
    return "no error";
  const auto& context = why.context();
  std::string text;
  for (size_t i = 0; i < context.size(); ++i) {
    if (!context.match_element<std::string>(i))
      continue;
    if (!text.empty())
      text += ": ";
    text += context.get_as<std::string>(i);
  }
  if (text.empty())
    text = caf::to_string(why.category()) + " error " + std::to_string(why.code());
  return text;
}

std::optional<int64_t> number_in(const caf::error& why) {
  if (!why)
    return std::nullopt;
  const auto& context = why.context();
  for (size_t i = 0; i < context.size(); ++i)
    if (context.match_element<int64_t>(i))
      return context.get_as<int64_t>(i);
  return std::nullopt;
}

} // namespace troupe

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

} // namespace troupe

#include "cli/hidden_secrets.hpp"

#include <algorithm>

#include "config/errors.hpp"
#include "storage/sources/location.hpp"

namespace troupe::cli {

config::settings without_secrets(config::settings what) {
  for (auto& [name, model] : what.models)
    if (model.source)
      for (auto& reference : *model.source)
        reference = storage::with_hidden_credentials(reference);
  return what;
}

caf::error restore_secrets(std::string& text, const config::settings& known) {
  for (const auto& [name, model] : known.models)
    for (const auto& whole : model.source.value_or(std::vector<std::string>{})) {
      const auto shown = storage::with_hidden_credentials(whole);
      if (shown == whole)
        continue;
      for (auto at = text.find(shown); at != std::string::npos;
           at = text.find(shown, at + whole.size())) {
        // Not the beginning of another one.
        const auto end = at + shown.size();
        constexpr std::string_view marks = " \t\r\n'\",]}#";
        if (end == text.size() || marks.find(text[end]) != std::string_view::npos)
          text.replace(at, shown.size(), whole);
      }
    }
  const auto left = text.find("://" + std::string{storage::hidden_credentials} + "@");
  if (left == std::string::npos)
    return {};
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(left), '\n');
  return caf::make_error(config::errc::invalid_value,
                         "line " + std::to_string(line) +
                             ": this server has no such source whose user and password could be "
                             "put back: write them out");
}

} // namespace troupe::cli

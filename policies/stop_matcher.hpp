#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::policies {

/// Finds stop strings in text that arrives in pieces, also where one spans several pieces. Text
/// that could be the beginning of a stop string is held back, so that nothing of it is ever sent.
class stop_matcher {
public:
  /// Empty stop strings are ignored.
  explicit stop_matcher(std::vector<std::string> stops = {});

  /// Takes the next piece and returns the text that is now final. Once `stopped`, returns nothing.
  std::string push(std::string_view piece);
  /// The text ended: what was held back is final after all.
  std::string flush();
  /// A stop string was found; everything before it has been returned.
  bool stopped() const { return stopped_; }

private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

} // namespace troupe::policies

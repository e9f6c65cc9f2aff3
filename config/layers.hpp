#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/settings.hpp"

namespace troupe::config {

/// Something wrong, and where: "troupe.yaml:12:3", "TROUPE_THREADS" or "--threads".
struct problem {
  std::string where;
  std::string what;
  bool operator==(const problem&) const = default;
};
/// "where: what", the form that editors and terminals make clickable.
std::string to_string(const problem& x);

/// Builds the settings layer by layer, each one over those before it: call in the order of
/// precedence, that is file, environment, flags. Every layer reports all of its problems, and a
/// value that is wrong changes nothing.
class layers {
public:
  /// `text` is a YAML file; `name` goes into messages; relative paths in it count from `folder`.
  void file(const std::string& text, const std::string& name, const std::filesystem::path& folder);
  /// Reads the file at `path`; an absent or unreadable one is a problem.
  void file(const std::filesystem::path& path);
  /// Looks at variables whose name begins with TROUPE_. Lists are separated by commas.
  void environment(const std::map<std::string, std::string>& variables);
  /// A flag's text for the key `path` (which must exist); `flag` goes into messages.
  void flag(std::string_view flag, std::string_view path, const std::string& text);
  void flag(std::string_view flag, std::string_view path, std::vector<std::string> items);
  /// Rules that span several keys. Call last.
  void check();

  const settings& values() const { return values_; }
  const std::vector<problem>& problems() const { return problems_; }
  /// Worth telling, no reason to refuse: an unknown TROUPE_ variable.
  const std::vector<problem>& notes() const { return notes_; }
  /// Where the value of a key came from: as problem::where, or "default".
  std::string origin(std::string_view path) const;
  /// The origins of everything that is not a default, by key path.
  std::map<std::string, std::string> origins() const { return {origins_.begin(), origins_.end()}; }

private:
  friend class file_reader;
  settings values_;
  std::vector<problem> problems_;
  std::vector<problem> notes_;
  std::map<std::string, std::string, std::less<>> origins_;
};

/// The TROUPE_ variables of this process.
std::map<std::string, std::string> troupe_environment();
/// "~" and "~/x" as the shell would read them.
std::string expand_home(const std::string& path);

/// Every setting as YAML. With `origins` (a layers' or loaded_settings'), each line ends in a
/// comment that says where its value came from.
std::string show(const settings& values, const std::map<std::string, std::string>* origins);

} // namespace troupe::config

#pragma once
#include <functional>
#include <string>
#include <vector>

namespace troupe::gateway {

/// What came of a new configuration.
struct config_outcome {
  int status = 200;    ///< 400: it is not good; 409: it cannot be saved; 500: saving it failed
  std::string problem; ///< of any other than 200: every one, a line each; nothing was changed
  size_t tenants = 0;
  bool saved = false;
  std::vector<std::string> not_applied; ///< keys that differ, but want a restart
};

/// The configuration of a running server, behind /admin/config. Implemented by whoever read it. Any
/// thread may call, nothing blocks; callbacks run once, on any thread.
class configuration {
public:
  virtual ~configuration() = default;
  /// What applies, as YAML that put() takes back; what must not be seen is hidden.
  virtual void show(std::function<void(std::string)> then) = 0;
  /// Puts this YAML in the place of the configuration file: all that can change while the server
  /// runs, or nothing. With `save` the file itself is replaced too.
  virtual void put(std::string text, bool save, std::function<void(config_outcome)> then) = 0;
};

} // namespace troupe::gateway

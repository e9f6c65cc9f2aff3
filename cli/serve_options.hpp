#pragma once
#include <string>
#include <vector>

namespace troupe::cli {

struct serve_options {
  std::vector<std::string> models;        ///< directories or names
  std::string port_file, admin_port_file; ///< what the ports are written to; empty = nowhere
  bool profile = false; ///< ends by printing, on standard error, what every op of its worker cost
};

} // namespace troupe::cli

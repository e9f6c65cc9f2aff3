#include "cli/complain.hpp"

#include <iostream>

namespace troupe::cli {

int complain(const std::string& what, int code) {
  std::cerr << "troupe: " << what << "\n";
  return code;
}

} // namespace troupe::cli

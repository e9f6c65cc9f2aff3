#include "schemas/errors.hpp"

namespace troupe::schemas {

std::string to_string(errc code) { return code == errc::malformed ? "malformed" : "unknown"; }

} // namespace troupe::schemas

#include "tests/gpu/random_ops.hpp"

namespace troupe::gpu::test {

std::unique_ptr<device> backend::make() const { return make_cpu_device({threads, mode, isa}); }

std::vector<backend> all_backends() {
  std::vector<backend> backends;
  for (const auto& isa : cpu_isas())
    backends.push_back({isa});
  return backends;
}

std::vector<backend> all_modes() {
  auto backends = all_backends();
  for (const auto& isa : cpu_isas())
    backends.push_back({isa, precision::float32});
  return backends;
}

std::vector<backend> float_attention() { return all_backends(); }

} // namespace troupe::gpu::test

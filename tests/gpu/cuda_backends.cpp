#include <cstdio>
#include <cstdlib>

#include "tests/gpu/random_ops.hpp"
#include "tests/gpu/staged_device.hpp"

namespace troupe::gpu::test {

std::unique_ptr<device> backend::make() const {
  device_options options;
  options.mode = mode;
  options.wide = wide;
  auto made = make_cuda_device(0, options);
  if (!made) {
    std::fprintf(stderr, "%s\n", describe(made.error()).c_str());
    std::abort();
  }
  return make_staged_device(std::move(*made));
}

namespace {

/// None on a machine without a device, which the first caller hears of.
std::vector<backend> on_the_device(std::vector<backend> backends) {
  static const auto found = cuda_devices();
  static const bool said = !found && std::printf("[  SKIPPED ] all tests on a CUDA device: %s\n",
                                                 describe(found.error()).c_str()) > 0;
  return said ? std::vector<backend>{} : backends;
}

} // namespace

std::vector<backend> all_backends() { return on_the_device({{"cuda"}}); }

std::vector<backend> all_modes() { return on_the_device({{"cuda"}, {"cuda", precision::float32}}); }

std::vector<backend> float_attention() { return on_the_device({{"cuda", precision::float32}}); }

} // namespace troupe::gpu::test

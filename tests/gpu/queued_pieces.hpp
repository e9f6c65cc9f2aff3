#pragma once
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "gpu/cuda/wide_products.hpp"

namespace troupe::gpu::test {

/// Queues a product within `limits` on memory of the host, and nothing behind its scratch memory is
/// touched; gives how many columns were queued.
inline int64_t queued_columns(const linear_args& args, const cuda::wide_limits& limits) {
  std::string why;
  cuda::wide_products wide{cuda::cublaslt::open(why), nullptr, limits};
  EXPECT_TRUE(wide.takes(args));
  std::vector<unsigned char> scratch(wide.scratch_bytes(args) + 16, 0xff);
  auto status = cudaSuccess;
  std::optional<dtype> rounded;
  const auto done = wide.queue(args, scratch.data(), nullptr, status, rounded);
  EXPECT_EQ(status, cudaSuccess);
  for (size_t i = wide.scratch_bytes(args); i < scratch.size(); ++i)
    EXPECT_EQ(scratch[i], 0xff) << "behind its memory";
  return done;
}

} // namespace troupe::gpu::test

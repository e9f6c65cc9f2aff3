#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace troupe::cli::bench {

/// What `troupe bench` was asked for. Texts and ranges are checked where the words are parsed.
struct options {
  std::vector<std::string> models; ///< names of shapes, or model directories
  std::string device = "cpu";      ///< or "cuda:N"
  std::vector<std::string> measures{"prefill", "decode"};
  std::vector<std::string> dtypes; ///< empty = bf16 for a shape, as it is for a directory
  std::vector<uint32_t> batches{1, 8, 32};
  std::vector<uint32_t> prompts{512};
  std::vector<uint32_t> contexts{128};
  uint32_t tokens = 16; ///< decoded for each sequence in one repetition
  uint32_t reps = 5;
  unsigned threads = 0;               ///< 0 = one per core
  std::string products = "invariant"; ///< of many rows on a CUDA device; or "fastest"
  std::string isa;                    ///< empty = the best that the machine has
  std::string output = "table";
  std::string scratch; ///< where load writes a shape's checkpoint; empty = the temporary folder
  bool profile = false;
  bool ceilings = true; ///< probe what the machine can do
  bool list = false;
};

inline const std::vector<std::string> all_measures{"prefill", "decode",    "load",
                                                   "sample",  "attention", "upload"};
inline const std::vector<std::string> all_dtypes{"bf16", "f16", "f32", "int8", "int4"};

} // namespace troupe::cli::bench

#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "base/error.hpp"
#include "engine/engine.hpp"
#include "engine/model/model_config.hpp"

namespace troupe::cli::bench {

/// Weights for a shape: small random numbers, ones for the norms. Filled in when they are looked
/// up, so that an engine that makes copies of its own never stands beside a whole model.
class random_weights {
public:
  /// Reserves addresses for every tensor that `config` asks for, in `type` (f32, f16 or bf16).
  static caf::expected<std::shared_ptr<random_weights>> create(const engine::model_config& config,
                                                               dtype type, unsigned threads);
  ~random_weights();
  random_weights(const random_weights&) = delete;
  random_weights& operator=(const random_weights&) = delete;

  /// The tensor's view, filled with the same numbers every time; none of an unknown name.
  std::optional<engine::weight_view> find(std::string_view name);
  uint64_t size_bytes() const { return size_bytes_; }
  /// Of the largest tensor.
  uint64_t largest_bytes() const { return largest_bytes_; }

private:
  struct tensor {
    std::vector<int64_t> shape;
    uint64_t offset = 0;
    uint64_t elements = 0;
    bool keeps = false; ///< looked up twice and kept in place once: must not be dropped
    bool filled = false;
  };
  random_weights(dtype type, unsigned threads) : type_{type}, threads_{threads} {}
  void fill(std::byte* to, const tensor& one) const;

  dtype type_;
  unsigned threads_;
  std::map<std::string, tensor, std::less<>> tensors_;
  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  uint64_t largest_bytes_ = 0;
};

} // namespace troupe::cli::bench

#pragma once
#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/bench/result.hpp"
#include "cli/bench/subject.hpp"

/// One function for each thing that is measured. They stop early, without a result, once `stop` is
/// set, which they look at between steps.
namespace troupe::cli::bench {

/// Repetitions of a prompt of `tokens` random tokens, to its first token.
caf::expected<std::optional<result>> measure_prefill(subject& of, uint32_t tokens, uint32_t reps,
                                                     const std::atomic<bool>& stop);

/// Repetitions of `tokens` tokens of each of `batch` sequences of random tokens; in the middle of
/// the run they are `context` tokens long.
caf::expected<std::optional<result>> measure_decode(subject& of, uint32_t batch, uint32_t context,
                                                    uint32_t tokens, uint32_t reps,
                                                    const std::atomic<bool>& stop);

/// From files to a first token: out of the page cache, and from the disk with the cache emptied of
/// them before. A shape's checkpoint is written to a scratch folder first and removed afterwards.
caf::expected<std::vector<result>> measure_load(const options& given, const model_choice& model,
                                                const std::string& dtype,
                                                const std::atomic<bool>& stop);

/// One layer's attention over a prompt of `tokens`, the device's op alone.
caf::expected<result> measure_attention(subject& of, uint32_t tokens, uint32_t reps);

/// Weights on their way to the device as a load brings them from the host pool: while its memory is
/// not pinned, when it is, with nothing else going on, and while the model decodes: bytes a second,
/// and what the decoding lost. Empty for a device that reads the host's memory, or if stopped.
caf::expected<std::vector<result>> measure_upload(subject& of, uint32_t reps,
                                                  const std::atomic<bool>& stop);

/// One choice from `vocabulary` random logits, for each of the usual filters.
std::vector<result> measure_sampling(const std::string& model, int64_t vocabulary, uint32_t reps,
                                     const std::atomic<bool>& stop);

} // namespace troupe::cli::bench

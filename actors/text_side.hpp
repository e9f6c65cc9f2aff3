#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "actors/request.hpp"
#include "base/error.hpp"
#include "engine/engine.hpp"

namespace troupe::engine {
struct frontend;
}

namespace troupe::actors {

/// Turns one choice's tokens into text as they come.
class text_decoder {
public:
  virtual ~text_decoder() = default;
  /// Text that this token completes; whole UTF-8, often empty within a character.
  virtual std::string push(engine::token_id token) = 0;
  /// What is left at the end.
  virtual std::string flush() = 0;
};

/// What a request needs of a model before and after its engine. Immutable and thread safe.
class text_side {
public:
  virtual ~text_side() = default;
  virtual caf::expected<std::vector<engine::token_id>> encode(const prompt& from) const = 0;
  virtual std::string decode(std::span<const engine::token_id> tokens) const = 0;
  /// `continues`: the text goes on from a prompt instead of being one of its own.
  virtual std::unique_ptr<text_decoder> decoder(bool continues) const = 0;
  /// The raw bytes of one token, not always UTF-8.
  virtual std::string token_bytes(engine::token_id token) const = 0;
  virtual engine::sampling_params defaults() const = 0;
  /// An error that names the parameter and its range, or none.
  virtual caf::error check(const engine::sampling_params& params) const = 0;
  virtual uint32_t context_length() const = 0;
};

/// The text side of a Hugging Face directory.
std::shared_ptr<const text_side> make_text_side(std::shared_ptr<const engine::frontend> from,
                                                uint32_t context_max);

} // namespace troupe::actors

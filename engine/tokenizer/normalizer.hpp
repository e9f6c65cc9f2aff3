#pragma once
#include <memory>
#include <string>

#include "engine/tokenizer/json_fields.hpp"

namespace troupe::engine {

/// A step of tokenizer.json's `normalizer`: valid UTF-8 in, valid UTF-8 out.
class normalizer {
public:
  virtual ~normalizer() = default;
  virtual std::string apply(std::string text) const = 0;
};

/// Kinds: Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, Replace.
caf::expected<std::unique_ptr<const normalizer>> make_normalizer(json_fields::element spec,
                                                                 const std::string& origin);

} // namespace troupe::engine

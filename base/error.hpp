#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include <caf/error.hpp>
#include <caf/expected.hpp>
#include <caf/make_message.hpp> // CAF_ERROR_CODE_ENUM and make_error need it

namespace troupe {

/// The sentence that the maker of `why` put into it, without code or category; falls back to
/// "category error N" for an error that carries no text.
std::string describe(const caf::error& why);

/// The int64_t that the maker of `why` put beside the sentence, if any; what it counts depends on
/// the error.
std::optional<int64_t> number_in(const caf::error& why);

} // namespace troupe

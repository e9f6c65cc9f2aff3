#pragma once
#include <filesystem>
#include <string>

#include "storage/checkpoint.hpp"
#include "storage/store/arrival.hpp"

namespace troupe::storage {

/// A text that no other weights have, nor these once a file of theirs was written to or replaced:
/// the identities of the files, and of config.json if `path`, where they were opened, is a
/// directory. A file of `arriving` has the one that it will have at its place. Empty if a file
/// cannot be looked at.
std::string identity_of(const checkpoint& files, const std::filesystem::path& path,
                        const arriving_model* arriving = nullptr);

} // namespace troupe::storage

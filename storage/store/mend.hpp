#pragma once
#include <filesystem>
#include <stop_token>

#include "storage/integrity/ledger.hpp"
#include "storage/store/pull.hpp"

namespace troupe::storage {

/// Where a fetched model (its directory, or its GGUF file) came from: of a hub its very commit.
/// `not_found` for one that was
/// not fetched by this program or a hub's client.
caf::expected<location> origin_of(const std::filesystem::path& model_dir);

/// Fetches those parts of a fetched model's weights anew which no longer have the checksums that
/// were recorded of them, and puts them in their places: what is fetched has to have the recorded
/// checksums, so the file is then what it was, and as trusted as before. Blocks, reads all of the
/// weights, and tells `observer` of the bytes to be fetched. Fails if the model came from nowhere,
/// if its source cannot be reached, or if that has other bytes now; the damaged file then stays
/// refused.
caf::expected<pulled_model> mend(const std::filesystem::path& model_dir, const ledger& records,
                                 const pull_setup& how, const pull_observer& observer,
                                 std::stop_token stop);

} // namespace troupe::storage

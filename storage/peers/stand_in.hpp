#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "storage/peers/peer_source.hpp"
#include "storage/pipeline/pooled_weights.hpp"

namespace troupe::storage {

/// A model that lies on another node, as far as this machine's disk needs it: the small files
/// whole, of weight files the heads, and holes where the tensors are. Everything that reads
/// headers can open it; the tensors have to come from peers, never from these files.
///
/// Writes below `root` a directory of the model's content, or finds it there, and returns what
/// `checkpoint::open` takes: the directory, or the GGUF file that `model` names. Blocks. Fails as
/// the peer does, with `no_space` if the disk is full.
caf::expected<std::filesystem::path> make_stand_in(peer_links& links, const host_port& from,
                                                   const std::string& model,
                                                   const std::vector<peer_file>& files,
                                                   const std::filesystem::path& root);

/// The nodes of which one gets a model, and what each chunk prefers.
struct peer_group {
  /// Nodes that have it: asked all at once, in proportion to what they deliver.
  std::vector<host_port> holders;
  /// Nodes that get it at the same time, perhaps this one among them (and then never asked).
  std::vector<host_port> together;
  /// For a chunk, who is asked in which order: 0 = the holders, i = together[i - 1]. Empty = the
  /// holders.
  std::function<std::vector<uint32_t>(uint64_t chunk)> route{};
  /// How long those of `together` may take until they have heard of the model themselves.
  uint32_t patience_ms = 20'000;
};

/// Where a stand-in's weights come from. `at` is what `make_stand_in` returned, `links` outlives
/// all reads, `received` counts bytes.
std::shared_ptr<const weight_origins>
origins_of(peer_links& links, const std::string& model, const std::vector<peer_file>& files,
           const peer_group& group, const std::filesystem::path& at, uint32_t chunk_bytes,
           std::shared_ptr<std::atomic<uint64_t>> received);

/// The files of a checkpoint on this machine's disk, with `holders` beside the disk: of a file
/// whose checksums are all recorded. Those say what a holder has to have.
std::shared_ptr<const weight_origins>
origins_beside(peer_links& links, const std::string& model, const std::vector<peer_file>& files,
               const std::vector<host_port>& holders, const std::filesystem::path& at,
               uint32_t chunk_bytes, std::shared_ptr<std::atomic<uint64_t>> received);

} // namespace troupe::storage

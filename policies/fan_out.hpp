#pragma once
#include <cstdint>
#include <vector>

namespace troupe::policies {

/// From whom a node gets one chunk of a model that many nodes load at the same time.
///
/// Of `members` nodes, 0 has the model and the others want it. Each chunk goes along a binomial
/// tree of its own over the corners of a hypercube, whose first dimension is the next one for every
/// chunk: so the first node sends every chunk about once, every other node sends about as much as
/// it gets, and the last one has all after (n/B)(1 + (ceil(log2 N) - 1)/k) for k chunks, if links
/// send and receive at B at the same time (the binomial pipeline of Ganesan and Seshadri, "On
/// Cooperative Content Distribution and the Price of Barter", 2005). Where the nodes are
/// no power of two, some corners hold two nodes, which take turns in getting a chunk from outside.
///
/// The result begins with the one to ask; whoever comes behind it is nearer to node 0 in the same
/// tree, down to 0 itself, and may be asked if those before are lost. Waiting for a chunk that way
/// never goes in a circle. `member` is not 0.
std::vector<uint32_t> fan_out_route(uint32_t member, uint32_t members, uint64_t chunk);

/// From whom a node gets one chunk if `loading` others, numbered from 1, began to get the model
/// earlier and node 0 has it: from those, in turn, and from node 0 what none of them gives. They
/// ask in the same order and have begun earlier, so a chunk is there when its turn comes, or soon;
/// node 0 sends it once.
std::vector<uint32_t> joining_route(uint32_t loading, uint64_t chunk);

/// Who of `members` nodes, numbered from 1, that want the same files from outside at the same time
/// fetches one part of them for all, and who does if those before are lost. Every part is one
/// node's, parts in a row belong to different ones, and what a lost one leaves behind is shared out
/// among all others. Nobody waits in a circle who waits only for those that come before it.
std::vector<uint32_t> fetch_turns(uint32_t members, uint64_t part);

/// Whether chunks shall come from peers beside a disk of this machine, by bytes per second of both
/// (0 = not known yet: worth a try): not if the last chunk, should it come from the peers, takes
/// longer than what all the others save.
bool peers_help(double disk_rate, double peer_rate, double bytes, double chunk_bytes);

/// Seconds until all of `members - 1` nodes have `bytes` in `chunks` chunks: the bound above.
double fan_out_bound(double bytes, double bytes_per_second, uint32_t members, double chunks);

} // namespace troupe::policies

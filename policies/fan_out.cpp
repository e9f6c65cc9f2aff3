#include "policies/fan_out.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace troupe::policies {

namespace {

/// Nodes at the corners of a hypercube, node 0 alone at corner 0.
class cube {
public:
  explicit cube(uint32_t members)
      : members_{members}, dimensions_{static_cast<uint32_t>(std::bit_width(members)) - 1} {}

  uint32_t corners() const { return 1u << dimensions_; }
  uint32_t corner_of(uint32_t node) const { return node < corners() ? node : node - corners() + 1; }
  /// Who at a corner gets the chunk from outside.
  uint32_t first_at(uint32_t corner, uint64_t chunk) const {
    const auto twin = corner - 1 + corners();
    const bool has_twin = corner != 0 && twin < members_;
    return has_twin && ((chunk % dimensions_ + chunk / dimensions_) & 1) != 0 ? twin : corner;
  }
  /// The corner that a chunk comes from; not asked of corner 0.
  uint32_t parent_of(uint32_t corner, uint64_t chunk) const {
    const auto first = static_cast<uint32_t>(chunk % dimensions_);
    const auto bit = 1u << first;
    if ((corner & bit) == 0)
      return corner ^ bit; // those of the other half come last, all at once
    for (uint32_t step = dimensions_ - 1; step > 0; --step)
      if (const auto other = 1u << (first + step) % dimensions_; (corner & other) != 0)
        return corner ^ other;
    return 0;
  }

private:
  const uint32_t members_;
  const uint32_t dimensions_;
};

} // namespace

std::vector<uint32_t> fan_out_route(uint32_t member, uint32_t members, uint64_t chunk) {
  std::vector<uint32_t> out;
  if (member == 0 || member >= members)
    return out;
  const cube nodes{members};
  auto corner = nodes.corner_of(member);
  if (const auto twin = nodes.first_at(corner, chunk); twin != member)
    out.push_back(twin);
  while (corner != 0) {
    corner = nodes.parent_of(corner, chunk);
    out.push_back(nodes.first_at(corner, chunk));
  }
  return out;
}

std::vector<uint32_t> joining_route(uint32_t loading, uint64_t chunk) {
  std::vector<uint32_t> out;
  for (uint32_t i = 0; i < loading; ++i)
    out.push_back(static_cast<uint32_t>(1 + (chunk + i) % loading));
  out.push_back(0);
  return out;
}

std::vector<uint32_t> fetch_turns(uint32_t members, uint64_t part) {
  std::vector<uint32_t> out;
  for (uint32_t i = 0; i < members; ++i) {
    const auto others = members - 1;
    const auto behind = i == 0 ? 0 : 1 + (i - 1 + part / members) % others;
    out.push_back(static_cast<uint32_t>(1 + (part % members + behind) % members));
  }
  return out;
}

bool peers_help(double disk_rate, double peer_rate, double bytes, double chunk_bytes) {
  if (disk_rate <= 0 || peer_rate <= 0)
    return true;
  const auto saved = bytes / disk_rate - bytes / (disk_rate + peer_rate);
  return chunk_bytes / peer_rate < saved;
}

double fan_out_bound(double bytes, double bytes_per_second, uint32_t members, double chunks) {
  const auto rounds = std::ceil(std::log2(std::max(members, 2u)));
  return bytes / bytes_per_second * (1 + (rounds - 1) / chunks);
}

} // namespace troupe::policies

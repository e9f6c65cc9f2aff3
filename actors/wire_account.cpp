// What loads cost, between nodes.
#include <algorithm>
#include <cmath>

#include "actors/cluster_types.hpp"
#include "schemas/cluster.capnp.h"
#include "schemas/flat_message.hpp"

namespace troupe::actors::wire {

namespace cp = troupe::schemas;

namespace {

/// What is no number of bytes or seconds becomes 0.
double sane(double x) { return std::isfinite(x) && x > 0 ? std::min(x, 1e18) : 0; }
uint64_t whole(double x) { return static_cast<uint64_t>(sane(x)); }

} // namespace

std::string encode(const load_account& x) {
  capnp::MallocMessageBuilder message;
  auto to = message.initRoot<cp::LoadAccount>();
  to.setModel(x.model.text.c_str());
  to.setRemoteBytes(whole(x.bytes[0]));
  to.setDiskBytes(whole(x.bytes[1]));
  to.setPoolBytes(whole(x.bytes[2]));
  to.setPagedBytes(whole(x.bytes[3]));
  to.setCachedBytes(whole(x.bytes[4]));
  to.setDeviceBytes(whole(x.bytes[5]));
  to.setQueued(x.seconds.queued);
  to.setFetch(x.seconds.fetch);
  to.setRead(x.seconds.read);
  to.setBytes(x.seconds.bytes);
  to.setBind(x.seconds.bind);
  to.setTotal(x.seconds.total);
  to.setSource(x.source.c_str());
  return cp::to_bytes(message);
}

caf::error decode(std::string_view bytes, load_account& x) {
  return cp::from_bytes<cp::LoadAccount>(bytes, "a load's account", [&](auto from) -> caf::error {
    x.model.text = std::string{from.getModel().cStr()};
    x.bytes = {
        static_cast<double>(from.getRemoteBytes()), static_cast<double>(from.getDiskBytes()),
        static_cast<double>(from.getPoolBytes()),   static_cast<double>(from.getPagedBytes()),
        static_cast<double>(from.getCachedBytes()), static_cast<double>(from.getDeviceBytes())};
    x.seconds = {.queued = sane(from.getQueued()),
                 .fetch = sane(from.getFetch()),
                 .read = sane(from.getRead()),
                 .bytes = sane(from.getBytes()),
                 .bind = sane(from.getBind()),
                 .total = sane(from.getTotal())};
    x.source = std::string{from.getSource().cStr()};
    return {};
  });
}

} // namespace troupe::actors::wire

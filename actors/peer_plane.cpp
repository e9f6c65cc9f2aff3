#include "actors/peer_plane.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

#include <unistd.h>

#include "actors/log.hpp"
#include "policies/fan_out.hpp"
#include "storage/errors.hpp"
#include "storage/store/pull.hpp"

namespace troupe::actors {

namespace {

namespace fs = std::filesystem;

/// Stand-ins that nobody has used for so long are removed.
constexpr auto stand_in_age_max = std::chrono::hours{24 * 7};

/// Who was told to load a model before this node, but has not begun, loads something else first.
constexpr uint32_t earlier_patience_ms = 1'000;

/// For so long nobody is kept from stopping who asks for bytes that another node is fetching.
constexpr uint32_t answer_patience_ms = 500;

/// "HOST:PORT" as `to_string` writes it; the host may be empty.
std::optional<host_port> parse_address(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos)
    return std::nullopt;
  host_port out;
  const auto port = text.substr(colon + 1);
  const auto end = port.data() + port.size();
  if (std::from_chars(port.data(), end, out.port).ptr != end || out.port == 0)
    return std::nullopt;
  auto host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  out.host = host;
  return out;
}

bool is_wildcard(const std::string& host) {
  return host.empty() || host == "0.0.0.0" || host == "::" || host == "*";
}

void remove_old(const fs::path& stand_ins) {
  std::error_code failed;
  const auto now = fs::file_time_type::clock::now();
  for (fs::directory_iterator it(stand_ins, failed), end; !failed && it != end;
       it.increment(failed)) {
    std::error_code ignored;
    if (now - it->last_write_time(ignored) > stand_in_age_max && !ignored)
      fs::remove_all(it->path(), ignored);
  }
}

} // namespace

caf::expected<std::shared_ptr<peer_plane>>
peer_plane::start(peer_plane_options options, std::shared_ptr<storage::weight_tiers> tiers) {
  std::shared_ptr<peer_plane> out{new peer_plane{std::move(options)}};
  const auto& set = out->options_;
  const auto process = set.node + "/" + std::to_string(::getpid());
  out->tiers_ = std::move(tiers);
  out->models_ = std::make_shared<storage::shared_models>(out->tiers_, set.checksums, process);
  out->links_ =
      std::make_unique<storage::peer_links>(storage::peer_links_options{.node = set.node});
  auto server = storage::peer_server::start({.listen = set.listen,
                                             .node = set.node,
                                             .bytes_per_second = set.bytes_per_second,
                                             .on_sent = set.on_sent},
                                            out->models_);
  if (!server)
    return server.error();
  out->server_ = std::move(*server);
  const auto& host = set.listen.host;
  out->address_ =
      to_string(host_port{is_wildcard(host) ? set.own_host : host, out->server_->port()});
  if (!set.stand_ins.empty())
    remove_old(set.stand_ins);
  return out;
}

void peer_plane::offer(const std::string& path) { models_->offer(path, path); }

namespace {

/// What fetched models are known by among nodes; no credentials in it.
std::string fetched_name(const std::string& origin) {
  const auto where = storage::parse_origin(origin);
  return where ? "fetched:" + where->from.text : std::string{};
}

} // namespace

void peer_plane::offer_fetched(const load_order& order, const std::string& path) {
  if (const auto name = fetched_name(order.origin); !name.empty())
    models_->offer(name, path);
}

std::shared_ptr<storage::source> peer_plane::peer_source(host_port at, const std::string& model,
                                                         uint32_t patience_ms) {
  using both = std::pair<std::shared_ptr<peer_plane>, std::shared_ptr<storage::source>>;
  const auto kept = std::make_shared<both>(
      shared_from_this(), storage::make_peer_source(*links_, std::move(at), model, patience_ms));
  return {kept, kept->second.get()};
}

void peer_plane::share(const load_order& order, fetch_events& events) {
  const auto name = fetched_name(order.origin);
  if (name.empty())
    return;
  for (auto& one : addresses(order.holders))
    events.beside.push_back(peer_source(std::move(one), name, 0));
  events.coming = [me = shared_from_this(), name](const std::vector<storage::coming_file>& files) {
    me->models_->offer_coming(name, files);
  };
  auto together = addresses(order.together);
  const auto members = static_cast<uint32_t>(together.size());
  if (members != order.together.size() || members <= (order.place > 0 ? 1u : 0u))
    return; // alone, or the places are not known
  for (uint32_t i = 0; i < members; ++i)
    events.together.members.push_back(
        i + 1 == order.place ? nullptr
                             : peer_source(std::move(together[i]), name, answer_patience_ms));
  events.together.turns = [members](uint64_t part) { return policies::fetch_turns(members, part); };
}

std::vector<host_port> peer_plane::addresses(const std::vector<std::string>& texts) const {
  std::vector<host_port> out;
  for (const auto& text : texts) {
    auto one = parse_address(text);
    if (!one)
      continue;
    if (one->host.empty())
      one->host = options_.head_host;
    out.push_back(std::move(*one));
  }
  return out;
}

std::shared_ptr<const void> peer_plane::loading(const std::string& model) {
  models_->set_loading(model, true);
  return {this, [me = shared_from_this(), model](const void*) {
            me->models_->set_loading(model, false);
          }};
}

caf::expected<found_model> peer_plane::find(const load_order& order, const std::string& dir) {
  std::error_code failed;
  // What this node fetched lies where it put it.
  if (!order.origin.empty())
    return found_model{.path = dir};
  if (options_.same_paths && fs::exists(dir, failed))
    return local(order, dir);
  return remote(order, dir);
}

/// The disk is the way, and peers help if they have the same and are worth it.
found_model peer_plane::local(const load_order& order, const std::string& dir) {
  found_model out{.path = dir};
  models_->offer(dir, dir);
  auto holders = addresses(order.holders);
  // Whoever is on this machine reads from the same disk.
  std::erase_if(holders, [this](const host_port& one) {
    const auto own = parse_address(address_);
    return (own && one.host == own->host) || one.host == "127.0.0.1" || one.host == "localhost";
  });
  if (!tiers_)
    return out;
  const auto disk = tiers_->pipeline().origin_rate();
  std::erase_if(holders, [&](const host_port& one) {
    return !policies::peers_help(disk, links_->bytes_per_second(one),
                                 static_cast<double>(order.weight_bytes), tiers_->chunk_bytes());
  });
  for (const auto& one : holders) {
    const auto files = storage::list_at_peer(*links_, one, dir);
    if (!files)
      continue;
    out.received = std::make_shared<std::atomic<uint64_t>>(0);
    out.from = storage::origins_beside(*links_, dir, *files, holders, dir, tiers_->chunk_bytes(),
                                       out.received);
    out.keep_alive = shared_from_this();
    return out;
  }
  return out;
}

caf::expected<found_model> peer_plane::remote(const load_order& order, const std::string& dir) {
  const auto holders = addresses(order.holders);
  const auto fail = [&](storage::errc code, const std::string& why) {
    return caf::make_error(code, dir + " is not on this machine, and " + why);
  };
  if (holders.empty())
    return fail(storage::errc::not_found, "no other node of the cluster has it");
  if (!tiers_)
    return fail(storage::errc::unsupported,
                "weights of other nodes need the host pool: set storage.pool");
  caf::error why;
  for (const auto& one : holders) {
    auto files = storage::list_at_peer(*links_, one, dir);
    const auto path = files ? storage::make_stand_in(*links_, one, dir, *files, options_.stand_ins)
                            : caf::expected<fs::path>{files.error()};
    if (!path) {
      why = path.error();
      continue;
    }
    std::error_code ignored;
    fs::last_write_time(is_directory(*path) ? *path : path->parent_path(),
                        fs::file_time_type::clock::now(), ignored);
    storage::peer_group group{.holders = holders, .together = addresses(order.together)};
    const auto members = static_cast<uint32_t>(group.together.size()) + 1;
    if (members > 2 && order.place > 0 && order.place < members)
      group.route = [place = order.place, members](uint64_t chunk) {
        return policies::fan_out_route(place, members, chunk);
      };
    else if (members > 1 && order.place == 0) {
      group.patience_ms = earlier_patience_ms;
      group.route = [loading = members - 1](uint64_t chunk) {
        return policies::joining_route(loading, chunk);
      };
    }
    found_model out{.path = path->string()};
    out.received = std::make_shared<std::atomic<uint64_t>>(0);
    out.from = storage::origins_of(*links_, dir, *files, group, *path, tiers_->chunk_bytes(),
                                   out.received);
    out.loading = loading(dir);
    models_->offer_received(dir, *path, std::move(*files));
    out.keep_alive = shared_from_this();
    log_info("loading " + dir + ", which is not on this machine, from " +
             std::to_string(holders.size()) + " other nodes" +
             (group.route
                  ? ", shared with " + std::to_string(members - (order.place > 0 ? 2 : 1)) + " more"
                  : ""));
    return out;
  }
  return fail(storage::errc::unavailable, "no node could give it: " + describe(why));
}

} // namespace troupe::actors

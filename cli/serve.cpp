#include "cli/serve.hpp"

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <thread>

#include <unistd.h>

#include "cli/access.hpp"
#include "cli/complain.hpp"
#include "cli/exit_codes.hpp"
#include "cli/live_config.hpp"
#include "cli/node_setup.hpp"
#include "cli/profile_table.hpp"
#include "cli/signals.hpp"
#include "cli/state.hpp"
#include "cli/terminal.hpp"
#include "cli/tls_watch.hpp"
#include "gateway/errors.hpp"

namespace troupe::cli {
namespace {

/// Whoever waits for the file sees it whole or not at all.
bool write_port_file(const std::string& file, uint16_t port) {
  const auto unfinished = file + ".tmp";
  {
    std::ofstream out(unfinished);
    out << port << "\n";
    if (!out.flush())
      return false;
  }
  std::error_code why;
  std::filesystem::rename(unfinished, file, why);
  return !why;
}

/// Wakes the main thread when the node ends by itself.
class node_watch {
public:
  node_watch(actors::node& node, signal_watch& signals)
      : thread_{[this, &node, &signals] {
          node.wait();
          ended_ = true;
          signals.wake();
        }} {}
  /// The node must have ended or been drained.
  ~node_watch() { thread_.join(); }
  node_watch(const node_watch&) = delete;
  node_watch& operator=(const node_watch&) = delete;
  bool ended() const { return ended_; }

private:
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

[[noreturn]] void leave_now(int signal) { _exit(128 + signal); }

/// The listeners of a node: one, or one more for /admin.
struct edges {
  std::unique_ptr<gateway::server> api, admin;

  void drain() {
    for (auto* one : {api.get(), admin.get()})
      if (one)
        one->drain();
  }
  size_t in_flight() const { return api->in_flight() + (admin ? admin->in_flight() : 0); }
};

/// Lets what runs finish; a further signal meanwhile ends the process.
void drain(actors::node& node, edges* server, std::chrono::milliseconds grace,
           signal_watch& signals) {
  using namespace std::chrono_literals;
  if (server)
    server->drain();
  // Shared, because the node may call back after this function has given up waiting.
  const auto drained = std::make_shared<std::atomic<bool>>(false);
  node.drain(grace, [drained, &signals] {
    *drained = true;
    signals.wake();
  });
  while (!*drained)
    if (const int again = signals.wait(); again != 0 && again != SIGHUP)
      leave_now(again);
  // What is answered may still be on its way to slow clients.
  const auto last = std::chrono::steady_clock::now() + 2s;
  while (server && server->in_flight() > 0 && std::chrono::steady_clock::now() < last)
    if (const int again = signals.wait(10ms); again != 0 && again != SIGHUP)
      leave_now(again);
}

/// What follows its files while a server runs; all of it on the main thread.
struct followers {
  tenant_reloader& tenants;
  key_watch& keys;
  tls_watch& certificates;
  live_config& config;
  std::chrono::steady_clock::time_point next_look{};

  static constexpr auto keys_interval = std::chrono::milliseconds{250};
  static constexpr auto files_interval = std::chrono::seconds{1};

  void hangup() {
    tenants.reload();
    certificates.reload();
  }
  /// Call every keys_interval, and when there is something to do.
  void tick() {
    config.serve(tenants);
    keys.look();
    const auto now = std::chrono::steady_clock::now();
    if (now < next_look)
      return;
    next_look = now + files_interval;
    tenants.look();
    certificates.look();
  }
};

int run_until_signal(actors::node& node, edges* server, const config::settings& settings,
                     signal_watch& signals, followers* followed = nullptr) {
  node_watch watch{node, signals};
  int signal = 0;
  while ((signal == 0 || signal == SIGHUP) && !watch.ended()) {
    signal = signals.wait(followed ? std::optional{followers::keys_interval} : std::nullopt);
    if (followed && signal == SIGHUP)
      followed->hangup();
    else if (followed && signal == 0)
      followed->tick();
  }
  if (signal == SIGHUP)
    signal = 0;
  if (signal == 0)
    return complain("the node ended, its log says why", failed);
  std::cerr << "troupe: finishing what runs, for "
            << config::format_duration(settings.drain_timeout)
            << " at most; a second signal ends at once\n";
  drain(node, server, settings.drain_timeout, signals);
  if (followed)
    followed->config.serve(followed->tenants); // nobody waits for an answer for ever
  return ok;
}

void print_profile(const std::vector<gpu::op_cost>& costs) {
  std::cerr << profile_table(costs, 0, 0, colours_wanted(STDERR_FILENO));
}

int serve_worker(const config::settings& settings, signal_watch& signals, bool profile) {
  auto options = node_options_of(settings, {});
  if (profile)
    options.on_profile = print_profile;
  auto node = actors::node::start(std::move(options));
  if (!node)
    return complain(describe(node.error()), failed);
  std::cout << "troupe " TROUPE_VERSION " works for the head at "
            << to_string(settings.cluster.join.value_or(host_port{})) << " (role worker)"
            << std::endl;
  return run_until_signal(**node, nullptr, settings, signals);
}

caf::expected<edges> start_edges(const config::settings& settings, gateway::server_options options,
                                 actors::services& services, tls_watch& certificates) {
  edges out;
  auto identity = certificates.open(settings.tls);
  if (!identity)
    return std::move(identity.error());
  options.tls = *identity;
  auto api = gateway::server::start(options, services);
  if (!api)
    return std::move(api.error());
  out.api = std::move(*api);
  if (!settings.admin_listen)
    return out;
  options.host = settings.admin_listen->host;
  options.port = settings.admin_listen->port;
  options.serves = gateway::surface::admin;
  identity = certificates.open(settings.admin_tls);
  if (!identity)
    return std::move(identity.error());
  options.tls = *identity;
  auto admin = gateway::server::start(std::move(options), services);
  if (!admin)
    return std::move(admin.error());
  out.admin = std::move(*admin);
  return out;
}

/// 0, or the exit code after a complaint.
int write_port_files(const serve_options& options, listening_ports ports) {
  for (const auto& [file, port] :
       {std::pair{options.port_file, ports.api}, {options.admin_port_file, ports.admin}})
    if (!file.empty() && !write_port_file(file, port))
      return complain("cannot write the port file " + file + ": does its directory exist?", failed);
  return ok;
}

} // namespace

int serve(const config::settings& settings, const settings_source& source,
          const serve_options& wanted) {
  signal_watch signals{true}; // before any thread starts
  if (settings.role == "worker")
    return serve_worker(settings, signals, wanted.profile);
  auto terms = terms_of(settings);
  if (!terms)
    return complain(describe(terms.error()), usage);
  const auto tenants = std::make_shared<actors::tenant_registry>(
      std::move(terms->tenants), settings.default_tenant, std::move(terms->admin_keys));
  auto ledger = open_ledger(settings, tenants);
  if (!ledger)
    return complain(describe(ledger.error()), failed);
  key_watch keys{tenants};
  if (const auto why = keys.open(settings))
    return complain(describe(why), failed);
  auto found = find_served(settings, wanted.models);
  if (!found)
    return complain(describe(found.error()), not_found);
  auto options = node_options_of(settings, *found);
  if (wanted.profile)
    options.on_profile = print_profile;
  auto node = actors::node::start(std::move(options));
  if (!node)
    return complain(describe(node.error()), failed);
  auto edge = server_options_of(settings);
  edge.tenants = tenants;
  edge.ledger = ledger->ledger;
  const auto config = std::make_shared<live_config>(signals);
  edge.config = config;
  tls_watch certificates;
  auto servers = start_edges(settings, std::move(edge), (*node)->edge(), certificates);
  if (!servers)
    return complain(describe(servers.error()),
                    servers.error() == gateway::errc::bad_certificate ? usage : cannot_listen);
  const listening_ports ports{servers->api->port(),
                              servers->admin ? servers->admin->port() : uint16_t{0},
                              (*node)->cluster_port()};
  if (const int code = write_port_files(wanted, ports); code != ok)
    return code;
  std::cout << welcome_text(settings, *found, ports, colours_wanted(STDOUT_FILENO)) << std::flush;
  tenant_reloader reloader{source, settings, tenants, *ledger, keys};
  followers followed{reloader, keys, certificates, *config};
  const int code = run_until_signal(**node, &*servers, settings, signals, &followed);
  *servers = {}; // before the node that they serve from
  return code;
}

} // namespace troupe::cli

#include "cli/serve.hpp"

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>

#include <sys/resource.h>
#include <unistd.h>

#include "cli/exit_codes.hpp"
#include "cli/node_setup.hpp"
#include "cli/table.hpp"

namespace troupe::cli {

namespace {

constexpr size_t models_shown = 12;

/// Before any thread starts, so that all inherit it and only `wait_for_signal` sees the signals.
sigset_t block_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return set;
}

void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit); // without it there are fewer connections, no more
  }
}

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

void print_models(const storage::catalog& found) {
  std::vector<std::vector<std::string>> rows{{"MODEL", "SIZE", "ARCHITECTURE"}};
  for (size_t i = 0; i < std::min(found.models.size(), models_shown); ++i) {
    const auto& model = found.models[i];
    rows.push_back({model.id.text, config::format_size_rounded(model.weight_bytes), model.architecture});
  }
  std::cout << render_table(rows);
  if (found.models.size() > models_shown)
    std::cout << "and " << found.models.size() - models_shown << " more\n";
  for (const auto& note : found.skipped)
    std::cout << "skipped " << note.where.string() << ": " << note.why << "\n";
}

void print_welcome(const config::settings& settings, const storage::catalog& found, uint16_t port,
                   uint16_t cluster_port) {
  auto host = settings.listen.host.empty() || settings.listen.host == "0.0.0.0" ? "127.0.0.1"
                                                                                : settings.listen.host;
  if (host.find(':') != std::string::npos)
    host = "[" + host + "]";
  const auto url = "http://" + host + ":" + std::to_string(port);
  std::cout << "troupe " TROUPE_VERSION " serves " << found.models.size() << " model"
            << (found.models.size() == 1 ? "" : "s") << " at " << url << "\n\n";
  if (found.models.empty())
    std::cout << "No model was found. Name a directory: troupe serve ~/models\n";
  else
    print_models(found);
  if (cluster_port != 0)
    std::cout << "workers join at port " << cluster_port << ": troupe serve --role worker --join HOST:"
              << cluster_port << "\n";
  if (!found.models.empty())
    std::cout << "\ncurl " << url << "/v1/chat/completions -H 'Content-Type: application/json' -d '{\"model\": \""
              << found.models.front().id.text
              << "\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}'\n";
  std::cout << std::flush;
}

/// Drains; a further signal meanwhile ends the process.
void drain(actors::node& node, std::chrono::milliseconds grace, const sigset_t& signals) {
  std::atomic<bool> drained = false;
  node.drain(grace, [&drained] { drained = true; });
  const timespec tick{0, 20'000'000};
  while (!drained)
    if (const int again = sigtimedwait(&signals, nullptr, &tick); again > 0)
      _exit(128 + again);
}

int fail(const caf::error& why, int code) {
  std::cerr << "troupe: " << describe(why) << "\n";
  return code;
}

} // namespace

int serve(const config::settings& settings, const std::vector<std::string>& named,
          const std::string& port_file) {
  const auto signals = block_signals();
  raise_file_limit();
  const bool worker = settings.role == "worker";
  storage::catalog found;
  if (!worker) {
    auto searched = find_served(settings, named);
    if (!searched)
      return fail(searched.error(), usage);
    found = std::move(*searched);
  }
  auto node = actors::node::start(node_options_of(settings, found.models));
  if (!node)
    return fail(node.error(), failed);
  std::unique_ptr<gateway::server> server;
  if (worker) {
    std::cout << "troupe " TROUPE_VERSION " works for "
              << config::format_address(settings.cluster.join.value_or(config::host_port{})) << std::endl;
  } else {
    auto started = gateway::server::start(server_options_of(settings), (*node)->edge());
    if (!started)
      return fail(started.error(), failed);
    server = std::move(*started);
    if (!port_file.empty() && !write_port_file(port_file, server->port())) {
      std::cerr << "troupe: cannot write the port file " << port_file << "\n";
      return failed;
    }
    print_welcome(settings, found, server->port(), (*node)->cluster_port());
  }
  int signal = 0;
  sigwait(&signals, &signal);
  std::cerr << "troupe: finishing what runs; a second signal ends at once\n";
  if (server)
    server->drain();
  drain(**node, settings.drain_timeout, signals);
  server.reset();
  return ok;
}

} // namespace troupe::cli

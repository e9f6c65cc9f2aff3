#include "cli/addresses.hpp"

#include "config/units.hpp"

namespace troupe::cli {

namespace {

std::string url_of(const std::string& host, uint16_t port, const config::tls_settings& tls) {
  return (tls.cert_file.empty() ? "http://" : "https://") +
         to_string(host_port{config::reachable_host(host), port});
}

} // namespace

std::string api_url(const config::settings& settings, uint16_t port) {
  return url_of(settings.listen.host, port, settings.tls);
}

std::string admin_url(const config::settings& settings, uint16_t port) {
  return settings.admin_listen ? url_of(settings.admin_listen->host, port, settings.admin_tls)
                               : api_url(settings, port);
}

std::string admin_url(const config::settings& settings) {
  const auto port = settings.admin_listen ? settings.admin_listen->port : settings.listen.port;
  return port == 0 ? std::string{} : admin_url(settings, port);
}

} // namespace troupe::cli

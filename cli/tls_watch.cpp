#include "cli/tls_watch.hpp"

#include <utility>

#include "actors/log.hpp"

namespace troupe::cli {

namespace {

std::array<file_stamp, 2> stamps_of(const gateway::tls_identity& of) {
  return {stamp_of(of.files().certificate), stamp_of(of.files().key)};
}

void warn(const gateway::tls_identity& about) {
  if (const auto text = about.warning(std::chrono::system_clock::now()); !text.empty())
    actors::log_warning(text);
}

} // namespace

caf::expected<std::shared_ptr<gateway::tls_identity>>
tls_watch::open(const config::tls_settings& settings) {
  if (settings.cert_file.empty())
    return std::shared_ptr<gateway::tls_identity>{};
  auto loaded = gateway::tls_identity::load({settings.cert_file, settings.key_file});
  if (!loaded)
    return std::move(loaded.error());
  warn(**loaded);
  const auto now = stamps_of(**loaded);
  all_.push_back({*loaded, now, now});
  return *loaded;
}

void tls_watch::look() {
  for (auto& one : all_) {
    const auto now = stamps_of(*one.what);
    const bool settled = now == std::exchange(one.seen, now);
    if (settled && now != one.applied)
      read(one);
  }
}

void tls_watch::reload() {
  for (auto& one : all_)
    read(one);
}

void tls_watch::read(watched& one) {
  one.applied = one.seen = stamps_of(*one.what);
  if (const auto why = one.what->reload())
    return actors::log_error("the certificate was not reloaded, the one of before stays: " +
                             describe(why));
  actors::log_info("new connections get the certificate " + one.what->files().certificate.string());
  warn(*one.what);
}

} // namespace troupe::cli

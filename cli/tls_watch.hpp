#pragma once
#include <array>
#include <memory>
#include <vector>

#include "cli/file_stamp.hpp"
#include "config/settings.hpp"
#include "gateway/tls.hpp"

namespace troupe::cli {

/// The certificates of a server's listeners, kept as their files are. One thread.
class tls_watch {
public:
  /// Null where the settings name no files; fails with what is wrong with them.
  caf::expected<std::shared_ptr<gateway::tls_identity>> open(const config::tls_settings& settings);
  /// Takes over files that have changed and been left alone since the last look. What cannot be
  /// used is told once and leaves the certificate of before.
  void look();
  /// The same without waiting.
  void reload();

private:
  using stamps = std::array<file_stamp, 2>;
  struct watched {
    std::shared_ptr<gateway::tls_identity> what;
    stamps applied, seen;
  };
  static void read(watched& one);

  std::vector<watched> all_;
};

} // namespace troupe::cli

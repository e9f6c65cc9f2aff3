#include "cli/logging.hpp"

#include <chrono>
#include <memory>

#include <nlohmann/json.hpp>
#include <spdlog/formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/rfc3339.hpp"

namespace troupe::cli {
namespace {

/// spdlog's patterns cannot escape, so a quote in a message would break the object.
class json_formatter final : public spdlog::formatter {
public:
  void format(const spdlog::details::log_msg& line, spdlog::memory_buf_t& to) override {
    const auto level = spdlog::level::to_string_view(line.level);
    const nlohmann::ordered_json object{
        {"time", format_rfc3339(line.time)},
        {"level", std::string(level.data(), level.size())},
        {"message", std::string(line.payload.data(), line.payload.size())}};
    const auto text =
        object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    to.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<json_formatter>();
  }
};

} // namespace

void start_logging(const std::string& level, const std::string& format) {
  auto logger = spdlog::stderr_logger_mt("troupe");
  if (format == "json")
    logger->set_formatter(std::make_unique<json_formatter>());
  else
    logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %-5l %v");
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

} // namespace troupe::cli

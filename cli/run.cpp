#include "cli/run.hpp"

#include <iostream>
#include <iterator>

#include <unistd.h>

#include "cli/answer.hpp"
#include "cli/exit_codes.hpp"
#include "cli/node_setup.hpp"

namespace troupe::cli {

namespace {

using json = nlohmann::ordered_json;

json message(const char* role, const std::string& text) {
  return {{"role", role}, {"content", text}};
}

json conversation(const run_options& options) {
  auto out = json::array();
  if (!options.system.empty())
    out.push_back(message("system", options.system));
  return out;
}

void print(std::string_view text) { std::cout << text << std::flush; }

void report_speed(const answer_report& report) {
  const double decode = report.total_seconds - report.first_token_seconds;
  std::cerr << "[first token after " << report.first_token_seconds * 1e3 << " ms, " << report.tokens
            << " tokens";
  if (report.tokens > 1 && decode > 0)
    std::cerr << ", " << (report.tokens - 1) / decode << " tokens/s";
  std::cerr << "]\n";
}

int answer_once(answerer& source, const run_options& options, const std::string& prompt) {
  auto messages = conversation(options);
  messages.push_back(message("user", prompt));
  const auto report = source.answer(messages, print);
  if (report.code == ok)
    std::cout << std::endl;
  if (report.code == ok && options.verbose)
    report_speed(report);
  return report.code;
}

int converse(answerer& source, const run_options& options) {
  std::cerr << "Talk to " << options.model << ". /clear forgets the conversation, /bye leaves.\n";
  auto messages = conversation(options);
  for (std::string line; std::cerr << "> " && std::getline(std::cin, line);) {
    if (line == "/bye")
      break;
    if (line == "/help") {
      std::cerr << "/clear forgets the conversation, /bye (or Ctrl-D) leaves\n";
      continue;
    }
    if (line == "/clear") {
      messages = conversation(options);
      continue;
    }
    if (line.empty())
      continue;
    messages.push_back(message("user", line));
    const auto report = source.answer(messages, print);
    std::cout << std::endl;
    if (report.code == cannot_connect || report.code == not_found)
      return report.code;
    if (report.code == ok)
      messages.push_back(message("assistant", report.text));
    else
      messages.erase(messages.size() - 1);
    if (options.verbose)
      report_speed(report);
  }
  return ok;
}

int talk(answerer& source, const run_options& options) {
  if (!options.prompt.empty())
    return answer_once(source, options, options.prompt);
  if (isatty(STDIN_FILENO))
    return converse(source, options);
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  if (text.ends_with('\n'))
    text.pop_back();
  if (text.empty()) {
    std::cerr << "troupe: there is no prompt: give it as an argument or on standard input\n";
    return usage;
  }
  return answer_once(source, options, text);
}

} // namespace

void show_load(std::string_view phase, uint64_t done_bytes, uint64_t total_bytes) {
  if (!isatty(STDERR_FILENO))
    return;
  const auto percent = total_bytes == 0 ? 0 : done_bytes * 100 / total_bytes;
  std::cerr << "\r\033[K" << phase << " " << percent << "%" << std::flush;
}

void clear_load() {
  if (isatty(STDERR_FILENO))
    std::cerr << "\r\033[K" << std::flush;
}

int run(const config::settings& settings, const run_options& options) {
  if (!options.url.empty())
    return talk(*make_remote_answerer(options), options);
  auto found = find_served(settings, {options.model});
  if (!found) {
    std::cerr << "troupe: " << describe(found.error()) << "\n";
    return not_found;
  }
  if (found->models.size() != 1) {
    std::cerr << "troupe: " << options.model << " holds " << found->models.size()
              << " models; name one of them\n";
    for (const auto& note : found->skipped)
      std::cerr << "skipped " << note.where.string() << ": " << note.why << "\n";
    return not_found;
  }
  const auto id = found->models.front().id;
  auto local = settings;
  local.role = "all";
  local.cluster = {};
  auto node = actors::node::start(node_options_of(local, std::move(found->models)));
  if (!node) {
    std::cerr << "troupe: " << describe(node.error()) << "\n";
    return failed;
  }
  return talk(*make_local_answerer((*node)->edge(), id, options), options);
}

} // namespace troupe::cli

#include "cli/chat.hpp"

#include <cstdio>
#include <iostream>

#include "cli/clock_text.hpp"
#include "cli/exit_codes.hpp"
#include "cli/line_editor.hpp"
#include "cli/progress_bar.hpp"

namespace troupe::cli {
namespace {

using json = nlohmann::ordered_json;

json message(const char* role, const std::string& text) {
  return {{"role", role}, {"content", text}};
}

json fresh_conversation(const run_options& options) {
  auto out = json::array();
  if (!options.system.empty())
    out.push_back(message("system", options.system));
  return out;
}

/// Prints an answer as it comes, its failure and, with --verbose, its speed.
answer_report print_answer(answerer& source, const run_options& options, const json& messages,
                           const attend_fn& attend) {
  progress_bar bar;
  const answer_events events{
      .on_text =
          [&bar](std::string_view text) {
            bar.clear();
            std::cout << text << std::flush;
          },
      .on_load = [&bar](std::string_view phase, uint64_t done_bytes,
                        uint64_t total_bytes) { bar.update(phase, done_bytes, total_bytes); }};
  attend(&source);
  auto report = source.answer(messages, events);
  attend(nullptr);
  bar.clear();
  if (report.code == ok || !report.text.empty())
    std::cout << std::endl;
  if (!report.failure.empty())
    std::cerr << "troupe: " << report.failure << "\n";
  if (options.verbose && report.code == ok)
    std::cerr << speed_text(report) << "\n";
  return report;
}

constexpr const char* help = "/clear  forget the conversation\n"
                             "/help   this list\n"
                             "/bye    leave (or Ctrl-D)\n"
                             "Ctrl-C stops an answer; the arrow keys recall and edit lines.\n";

} // namespace

std::string speed_text(const answer_report& report) {
  std::string text = "[";
  if (report.load_seconds)
    text += "loaded in " + elapsed_text(*report.load_seconds) + ", ";
  text += "first token after " + elapsed_text(report.first_token_seconds) + ", " +
          std::to_string(report.prompt_tokens) + " tokens in, " + std::to_string(report.tokens) +
          " out";
  if (report.tokens > 1 && report.total_seconds > 0) {
    // Over the whole answer: a tiny model's tokens arrive in one read, which would look instant.
    char rate[48];
    std::snprintf(rate, sizeof rate, ", %.0f tokens/s", report.tokens / report.total_seconds);
    text += rate;
  }
  return text + "]";
}

int answer_once(answerer& source, const run_options& options, const std::string& prompt,
                const attend_fn& attend) {
  auto messages = fresh_conversation(options);
  messages.push_back(message("user", prompt));
  return print_answer(source, options, messages, attend).code;
}

int converse(answerer& source, const run_options& options, const attend_fn& attend) {
  std::cerr << "Talking to " << options.model << ". /help lists the commands.\n";
  line_editor editor;
  auto messages = fresh_conversation(options);
  while (true) {
    const auto line = editor.read(">>> ");
    if (line.how == line_editor::outcome::closed)
      return ok;
    if (line.how == line_editor::outcome::interrupted) {
      std::cerr << "Ctrl-D or /bye leaves.\n";
      continue;
    }
    const auto& text = line.text;
    if (text == "/bye" || text == "/exit")
      return ok;
    if (text == "/clear") {
      messages = fresh_conversation(options);
      std::cerr << "The conversation is forgotten.\n";
    } else if (text == "/help" || text == "/?") {
      std::cerr << help;
    } else if (text.starts_with('/') && text.find(' ') == std::string::npos) {
      std::cerr << "There is no command " << text << ".\n" << help;
    } else if (text.find_first_not_of(" \n") != std::string::npos) {
      messages.push_back(message("user", text));
      const auto report = print_answer(source, options, messages, attend);
      if (report.code == cannot_connect || report.code == not_found)
        return report.code;
      // A stopped answer stays part of the conversation, a failed one never was.
      if (report.code == ok || report.code == interrupted)
        messages.push_back(message("assistant", report.text));
      else
        messages.erase(messages.size() - 1);
    }
  }
}

} // namespace troupe::cli

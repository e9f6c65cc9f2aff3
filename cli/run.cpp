#include "cli/run.hpp"

#include <atomic>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <thread>

#include <unistd.h>

#include "actors/node.hpp"
#include "cli/answer.hpp"
#include "cli/chat.hpp"
#include "cli/complain.hpp"
#include "cli/exit_codes.hpp"
#include "cli/http_client.hpp"
#include "cli/inspect.hpp"
#include "cli/line_editor.hpp"
#include "cli/model_choice.hpp"
#include "cli/node_setup.hpp"
#include "cli/signals.hpp"
#include "storage/gguf_files.hpp"
#include "storage/model_dir.hpp"
#include "storage/sources/location.hpp"

namespace troupe::cli {
namespace {

/// Ctrl-C ends the answer in progress; where there is none, and the second time, the program.
class interrupter {
public:
  explicit interrupter(signal_watch& signals) : signals_{signals}, thread_{[this] { watch(); }} {}
  ~interrupter() {
    leaving_ = true;
    signals_.wake();
    thread_.join();
  }
  interrupter(const interrupter&) = delete;
  interrupter& operator=(const interrupter&) = delete;

  /// The answer in progress; null = there is none.
  void attend(answerer* source) {
    asked_ = false;
    source_ = source;
  }

private:
  void watch() {
    while (!leaving_) {
      const int signal = signals_.wait();
      if (signal == 0)
        continue;
      answerer* source = source_;
      if (signal == SIGINT && source && !asked_.exchange(true)) {
        source->cancel();
        continue;
      }
      restore_terminal();
      _exit(128 + signal);
    }
  }

  signal_watch& signals_;
  std::atomic<bool> leaving_ = false;
  std::atomic<bool> asked_ = false;
  std::atomic<answerer*> source_ = nullptr;
  std::thread thread_;
};

int talk(answerer& source, const run_options& options, interrupter& signals) {
  const auto attend = [&signals](answerer* to) { signals.attend(to); };
  if (!options.prompt && isatty(STDIN_FILENO))
    return converse(source, options, attend);
  std::string text = options.prompt.value_or("");
  if (!options.prompt) {
    text.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
    if (text.ends_with('\n'))
      text.pop_back();
  }
  if (text.empty())
    return complain("there is no prompt: give it as an argument or on standard input", usage);
  return answer_once(source, options, text, attend);
}

bool is_path(const std::string& model) {
  std::error_code ignored;
  return looks_like_path(model) || (storage::is_gguf(model) && !storage::is_url(model)) ||
         std::filesystem::is_directory(model, ignored);
}

/// Whether the server of this machine serves the model.
bool served_nearby(const std::string& model) {
  const auto answer = http_request(std::string{default_server} + "/v1/models/" + url_escape(model));
  return answer.status == 200;
}

/// A server knows names; where their files are is nothing it can be told.
int refuse_place(const run_options& options) {
  const auto at = storage::parse_location(options.model);
  const bool remote = at && at->kind != storage::location_kind::file;
  const auto model = storage::without_credentials(options.model);
  return complain(
      "a server is asked for a model by its name, and " + model +
          (remote ? " says where one comes from: name it (" + at->model_name + ", if it is served)"
                  : " is a place on this machine: name a model that " + options.url +
                        " serves (`troupe models` lists them)") +
          ", or leave out --url and unset TROUPE_URL to compute here",
      usage);
}

int ask_server(run_options options, const char* url, interrupter& signals) {
  options.url = url;
  const auto source = make_remote_answerer(options);
  return talk(*source, options, signals);
}

} // namespace

int run(const config::settings& settings, const run_options& options) {
  signal_watch watch; // before any thread starts
  interrupter signals{watch};
  if (!options.url.empty())
    return looks_like_path(options.model) || storage::is_url(options.model)
               ? refuse_place(options)
               : ask_server(options, options.url.c_str(), signals);
  auto found = find_served(settings, {options.model}, true);
  if (!found) {
    if (!is_path(options.model) && !storage::is_url(options.model) && served_nearby(options.model))
      return ask_server(options, default_server, signals);
    return complain(describe(found.error()), not_found);
  }
  if (is_path(options.model)) // whatever else there is
    std::erase_if(found->models,
                  [&](const auto& model) { return !within(model.dir, {options.model}); });
  if (found->models.size() > 1) // of several GGUF files in one folder there is a usual one
    if (const auto usual = storage::find_sole_model(options.model).path; !usual.empty())
      std::erase_if(found->models, [&, top = usual.parent_path()](const auto& model) {
        std::error_code ignored;
        return std::filesystem::equivalent(model.dir.parent_path(), top, ignored) &&
               !std::filesystem::equivalent(model.dir, usual, ignored);
      });
  if (found->models.size() > 1) {
    std::string names;
    for (const auto& model : found->models)
      names += "\n  " + model.dir.string();
    return complain(storage::without_credentials(options.model) +
                        " holds several models; name one:" + names,
                    not_found);
  }
  if (found->models.empty()) {
    std::string why =
        storage::without_credentials(options.model) + " holds no model that can be served";
    for (const auto& note : found->skipped)
      why += "\n  " + note.where.string() + ": " + note.why;
    return complain(why, not_found);
  }
  const auto id = found->models.front().id;
  auto local = settings;
  local.role = "all";
  local.cluster = {};
  local.storage.pool = "off"; // one conversation leaves nothing behind that would outlive it
  auto node = actors::node::start(node_options_of(local, *found));
  if (!node)
    return complain(describe(node.error()), failed);
  const auto source = make_local_answerer((*node)->edge(), id, options);
  return talk(*source, options, signals);
}

} // namespace troupe::cli

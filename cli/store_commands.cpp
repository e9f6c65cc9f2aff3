#include "cli/store_commands.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <optional>
#include <stop_token>
#include <thread>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/clock_text.hpp"
#include "cli/complain.hpp"
#include "cli/exit_codes.hpp"
#include "cli/pull_setup.hpp"
#include "cli/pull_view.hpp"
#include "cli/signals.hpp"
#include "cli/table.hpp"
#include "cli/terminal.hpp"
#include "config/keys.hpp"
#include "config/units.hpp"
#include "storage/errors.hpp"
#include "storage/sources/location.hpp"
#include "storage/store/files.hpp"
#include "storage/store/gguf_heads.hpp"
#include "storage/store/usage.hpp"

namespace troupe::cli {

namespace {

int fail_with(const caf::error& why) {
  return complain(describe(why), why == storage::errc::not_found       ? not_found
                                 : why == storage::errc::bad_reference ? usage
                                                                       : failed);
}

/// Turns the first signal into a stop request; the second ends the program.
class stopper {
public:
  stopper() : thread_{[this] { watch(); }} {}
  ~stopper() {
    leaving_ = true;
    signals_.wake();
    thread_.join();
  }
  stopper(const stopper&) = delete;
  stopper& operator=(const stopper&) = delete;
  std::stop_token token() const { return source_.get_token(); }
  int signal() const { return signal_; }

private:
  void watch() {
    while (!leaving_) {
      const int got = signals_.wait();
      if (got == 0)
        continue;
      if (signal_.exchange(got) != 0)
        _exit(128 + got);
      source_.request_stop();
    }
  }

  signal_watch signals_;
  std::stop_source source_;
  std::atomic<bool> leaving_ = false;
  std::atomic<int> signal_ = 0;
  std::thread thread_;
};

} // namespace

int pull_model(const config::settings& settings, const pull_options& options) {
  stopper signals; // before any other thread starts
  auto references = options.reference;
  for (const auto& one : options.mirrors)
    references += "\n" + one;
  const auto where = storage::parse_origin(references);
  if (!where)
    return fail_with(where.error());
  const auto* from = &where->from;
  std::error_code failed;
  const bool local = from->kind == storage::location_kind::file;
  if (local && !std::filesystem::exists(from->path, failed))
    return fail_with(caf::make_error(
        storage::errc::not_found, "there is no directory " + options.reference +
                                      "; a model of the hub is written hf://" + options.reference));
  if (local)
    std::cerr << "troupe: a directory of this machine is used where it is: nothing to fetch\n";
  auto setup = pull_setup_of(settings);
  pull_view view;
  setup.warn = [&view](const std::string& text) { view.warn(text); };
  const auto begun = std::chrono::steady_clock::now();
  const auto got = storage::pull(
      {.from = *from, .name = options.name, .include = options.include, .mirrors = where->mirrors},
      setup, [&view](const storage::pull_progress& progress) { view.update(progress); },
      signals.token());
  view.clear();
  if (!got && signals.signal() != 0) {
    std::cerr << "troupe: stopped; the same command goes on from here\n";
    return 128 + signals.signal();
  }
  if (!got)
    return fail_with(got.error());
  storage::drop_gguf_heads(setup.store_dir, got->name);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  std::cout << got->name << " is in " << got->dir.string() << ": "
            << config::format_size_rounded(got->total_bytes) << " in " << got->files << " files, ";
  if (got->fetched_bytes == 0)
    std::cout << "nothing to fetch\n";
  else
    std::cout << config::format_size_rounded(got->fetched_bytes) << " fetched in "
              << elapsed_text(seconds) << "\n";
  for (const auto& [name, bytes] : got->shares)
    std::cout << "  " << config::format_size_rounded(bytes) << " from " << name << "\n";
  return ok;
}

namespace {

/// What a name of `troupe rm` means.
struct named_part {
  const storage::stored_model* model = nullptr;
  storage::removal what{};
};

/// "@revision", ":TAG", "@revision:TAG", or "/" and a GGUF model of `model`, behind its name.
std::optional<storage::removal> part_of(const storage::stored_model& model, std::string_view rest) {
  storage::removal out;
  if (rest.starts_with('/')) {
    rest.remove_prefix(1);
    const auto at = std::ranges::find_if(
        model.ggufs, [&](const auto& x) { return x.name == rest || x.file == rest; });
    if (at == model.ggufs.end())
      return std::nullopt;
    out.gguf.file = at->file;
    return out;
  }
  if (rest.starts_with('@')) {
    const auto end = std::min(rest.find(':'), rest.size());
    out.revision = rest.substr(1, end - 1);
    rest.remove_prefix(end);
  }
  if (rest.starts_with(':'))
    out.gguf.tag = rest.substr(1);
  return out.revision.empty() && out.gguf.empty() ? std::nullopt : std::optional{out};
}

/// Of several models that `text` may mean a part of, the one with the longest name.
named_part find_named(const std::vector<storage::stored_model>& all, const std::string& text) {
  const std::string_view name = std::string_view{text}.substr(text.starts_with("hf://") ? 5 : 0);
  for (const auto& one : all)
    if (one.name == name || one.source == text)
      return {&one};
  named_part out;
  for (const auto& one : all)
    if (name.starts_with(one.name) && (!out.model || one.name.size() > out.model->name.size()))
      if (auto what = part_of(one, name.substr(one.name.size())))
        out = {&one, std::move(*what)};
  return out;
}

} // namespace

int remove_stored(const config::settings& settings, const remove_options& options) {
  const auto shown = storage::without_credentials(options.model);
  const auto name = shown.starts_with("hf://") ? shown.substr(5) : shown;
  const auto store = store_dir_of(settings);
  const auto all = storage::stored_models(store, hub_cache_of(settings));
  auto [model, what] = find_named(all, options.model);
  // A head that reads requests for other machines has nothing else of a model.
  if (!model && storage::remove_gguf_heads(store, name) > 0) {
    std::cout << "removed what was kept of " << shown << " for reading requests\n";
    return ok;
  }
  if (!model) {
    std::vector<std::string_view> names;
    for (const auto& one : all)
      names.push_back(one.name);
    const auto near = config::closest(name, names);
    return fail_with(caf::make_error(
        storage::errc::not_found,
        "no fetched model is called '" + name + "'" +
            (near.empty() ? ": `troupe df` lists them; models of other directories are yours to "
                            "remove"
                          : ": did you mean '" + std::string{near} + "'?")));
  }
  what.force = options.force;
  const auto freed = storage::remove_model(*model, what);
  if (!freed)
    return fail_with(freed.error());
  if (what.revision.empty())
    storage::remove_gguf_heads(store, name);
  std::cout << "removed " << shown << ", which frees " << config::format_size_rounded(*freed)
            << "\n";
  return ok;
}

int show_disk_usage(const config::settings& settings, bool json) {
  const auto store = store_dir_of(settings);
  const auto cache = hub_cache_of(settings);
  const auto all = storage::stored_models(store, cache);
  uint64_t total = 0;
  for (const auto& one : all)
    total += one.disk_bytes;
  const auto free = storage::free_bytes(store);
  if (json) {
    auto rows = nlohmann::ordered_json::array();
    for (const auto& one : all) {
      auto ggufs = nlohmann::ordered_json::array();
      for (const auto& x : one.ggufs)
        ggufs.push_back(
            {{"model", one.name + "/" + x.name}, {"file", x.file}, {"disk_bytes", x.disk_bytes}});
      rows.push_back({{"model", one.name},
                      {"disk_bytes", one.disk_bytes},
                      {"partial_bytes", one.partial_bytes},
                      {"complete", one.complete},
                      {"in_use", one.in_use},
                      {"source", one.source},
                      {"directory", one.dir.string()},
                      {"gguf", std::move(ggufs)}});
    }
    nlohmann::ordered_json out{{"models", std::move(rows)}, {"disk_bytes", total}};
    if (free)
      out["free_bytes"] = *free;
    constexpr auto replace = nlohmann::json::error_handler_t::replace;
    std::cout << out.dump(2, ' ', false, replace) << "\n";
    return ok;
  }
  std::vector<std::vector<std::string>> rows{{"MODEL", "DISK", "STATE", "SOURCE"}};
  for (const auto& one : all) {
    rows.push_back({one.name, config::format_size_rounded(one.disk_bytes),
                    one.in_use     ? "in use"
                    : one.complete ? "complete"
                                   : "partial",
                    one.source});
    for (const auto& x : one.ggufs) // what `troupe rm` takes as well
      rows.push_back(
          {"  " + one.name + "/" + x.name, config::format_size_rounded(x.disk_bytes), "", x.file});
  }
  std::cout << render_table(rows, colours_wanted(STDOUT_FILENO)) << all.size() << " models, "
            << config::format_size_rounded(total) << " in " << store.string() << " and "
            << cache.string();
  if (free)
    std::cout << "; " << config::format_size_rounded(*free) << " free";
  std::cout << "\n";
  return ok;
}

} // namespace troupe::cli

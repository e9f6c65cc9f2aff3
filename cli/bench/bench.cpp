#include "cli/bench/bench.hpp"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <iostream>
#include <thread>

#include <unistd.h>

#include "cli/bench/measure.hpp"
#include "cli/bench/result.hpp"
#include "cli/bench/shapes.hpp"
#include "cli/complain.hpp"
#include "cli/exit_codes.hpp"
#include "cli/signals.hpp"
#include "cli/table.hpp"
#include "cli/terminal.hpp"
#include "gpu/cpu/host_limits.hpp"

namespace troupe::cli::bench {
namespace {

/// Sets a flag at the first signal and ends the program at the second.
class stop_on_signal {
public:
  stop_on_signal() : thread_{[this] { watch(); }} {}
  ~stop_on_signal() {
    leaving_ = true;
    signals_.wake();
    thread_.join();
  }
  stop_on_signal(const stop_on_signal&) = delete;
  stop_on_signal& operator=(const stop_on_signal&) = delete;
  const std::atomic<bool>& asked() const { return asked_; }
  int code() const { return 128 + signal_; }

private:
  void watch() {
    while (!leaving_) {
      const int signal = signals_.wait();
      if (signal == 0)
        continue;
      signal_ = signal;
      if (asked_.exchange(true))
        _exit(128 + signal);
    }
  }

  signal_watch signals_; // before any other thread starts
  std::atomic<bool> leaving_{false}, asked_{false};
  std::atomic<int> signal_{0};
  std::thread thread_;
};

bool wanted(const options& given, const char* measure) {
  return std::ranges::find(given.measures, measure) != given.measures.end();
}

void say(const std::string& what) { std::cerr << "troupe bench: " << what << std::endl; }

std::string shapes_table() {
  std::vector<std::vector<std::string>> rows{
      {"SHAPE", "LAYERS", "HIDDEN", "INTERMEDIATE", "HEADS", "KV HEADS", "VOCABULARY"}};
  for (const auto& one : all_shapes())
    rows.push_back({std::string{one.name}, std::to_string(one.layers), std::to_string(one.hidden),
                    std::to_string(one.intermediate), std::to_string(one.heads),
                    std::to_string(one.kv_heads), std::to_string(one.vocabulary)});
  return render_table(rows, colours_wanted(STDOUT_FILENO));
}

/// An error text if this machine cannot be told to use `isa`, else empty.
std::string refuse_isa(const std::string& isa) {
  auto known = gpu::cpu_isas();
  known.push_back("reference");
  if (isa.empty() || std::ranges::find(known, isa) != known.end())
    return {};
  std::string names;
  for (const auto& one : known)
    names += (names.empty() ? "" : ", ") + one;
  return "this machine has no instruction set '" + isa + "'; it has " + names;
}

/// Goes through models and dtypes and fills a report.
class runner {
public:
  runner(const options& given, const std::atomic<bool>& stop)
      : given_{given}, stop_{stop}, probe_device_{make_device(given)}, reads_{given.threads,
                                                                              *probe_device_} {
    report_.version = TROUPE_VERSION;
    report_.host = this_machine();
    report_.device = probe_device_->name();
    report_.threads = given.threads;
  }

  caf::error run() {
    if (given_.ceilings) {
      say("measuring what the machine can do");
      report_.computes = measure_compute(given_.threads);
    }
    for (const auto& name : given_.models) {
      const auto model = choose(name);
      if (!model)
        return model.error();
      auto dtypes = given_.dtypes;
      if (dtypes.empty())
        dtypes.push_back(model->path.empty() ? "bf16" : "");
      for (const auto& dtype : dtypes)
        if (auto why = measure_all(*model, dtype); why || stop_)
          return why;
    }
    return {};
  }

  report finish() {
    report_.reads = reads_.all();
    return std::move(report_);
  }

private:
  caf::error measure_all(const model_choice& model, const std::string& dtype) {
    if (wanted(given_, "prefill") || wanted(given_, "decode") || wanted(given_, "sample")) {
      say("loading " + model.title + (dtype.empty() ? "" : " in " + dtype));
      auto made = make_subject(given_, model, dtype);
      if (!made)
        return made.error();
      if (auto why = measure_subject(*made))
        return why;
    }
    if (!wanted(given_, "load") || stop_)
      return {};
    say("load " + model.title);
    auto loads = measure_load(given_, model, dtype, stop_);
    if (!loads)
      return loads.error();
    for (auto& one : *loads)
      report_.results.push_back(std::move(one));
    return {};
  }

  caf::error measure_subject(subject& of) {
    // Before and after: what memory gives changes with what the neighbours do.
    if (given_.ceilings)
      reads_.measure(of.weight_bytes);
    if (wanted(given_, "prefill"))
      for (const auto tokens : given_.prompts)
        if (auto why = keep(measure_prefill(of, tokens, given_.reps, stop_)))
          return why;
    if (wanted(given_, "decode"))
      for (const auto context : given_.contexts)
        for (const auto batch : given_.batches)
          if (auto why =
                  keep(measure_decode(of, batch, context, given_.tokens, given_.reps, stop_)))
            return why;
    if (wanted(given_, "sample") && !stop_)
      for (auto& one : measure_sampling(of.model, of.config.vocab_size, given_.reps, stop_))
        report_.results.push_back(std::move(one));
    if (given_.ceilings && !stop_)
      reads_.measure(of.weight_bytes);
    return {};
  }

  caf::error keep(caf::expected<std::optional<result>> got) {
    if (!got)
      return got.error();
    if (*got) {
      const auto& one = **got;
      say(one.measure + " " + one.model + " " + one.dtype +
          (one.measure == "decode" ? ", batch " + std::to_string(one.batch) : "") + ": " +
          std::to_string(one.value.median).substr(0, 6) + " " + one.unit);
      report_.results.push_back(std::move(**got));
    }
    return {};
  }

  const options& given_;
  const std::atomic<bool>& stop_;
  std::unique_ptr<gpu::device> probe_device_;
  read_probe reads_;
  report report_;
};

void print(const options& given, const report& all) {
  if (given.output == "json")
    std::cout << as_json(all);
  else if (given.output == "csv")
    std::cout << as_csv(all);
  else
    std::cout << as_table(all, colours_wanted(STDOUT_FILENO));
  std::cout.flush();
}

} // namespace

int run(const options& typed) {
  if (typed.list) {
    std::cout << shapes_table();
    return ok;
  }
  auto given = typed;
  if (given.models.empty())
    given.models = {"smollm2-135m"};
  if (given.threads == 0)
    given.threads = gpu::cpu::host_cores();
  for (const auto& name : given.models) // before anything takes time
    if (const auto model = choose(name); !model)
      return complain(describe(model.error()), not_found);
  if (const auto text = refuse_isa(given.isa); !text.empty())
    return complain(text, usage);
  stop_on_signal stop;
  runner work{given, stop.asked()};
  const auto why = work.run();
  const auto all = work.finish();
  if (!why || !all.results.empty())
    print(given, all);
  if (why)
    return complain(describe(why), failed);
  return stop.asked() ? stop.code() : ok;
}

} // namespace troupe::cli::bench

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
#include "gpu/cuda_probe.hpp"
#include "gpu/errors.hpp"

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
  /// `probed` = a device of its own for the ceilings of the host's memory.
  runner(const options& given, const std::atomic<bool>& stop, std::unique_ptr<gpu::device> probed)
      : given_{given}, stop_{stop}, probed_{std::move(probed)}, reads_{given.threads, *probed_} {
    report_.version = TROUPE_VERSION;
    report_.host = this_machine();
    report_.device = probed_->name();
    report_.threads = given.threads;
  }

  caf::error run() {
    if (given_.ceilings) {
      say("measuring what the machine can do");
      if (auto why = measure_ceilings())
        return why;
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
    if (probed_->reads_host_memory())
      report_.reads = reads_.all();
    return std::move(report_);
  }

private:
  caf::error measure_ceilings() {
    const auto ordinal = cuda_ordinal(given_.device);
    if (!ordinal) {
      report_.computes = measure_compute(given_.threads);
      return {};
    }
    auto rates = gpu::measure_cuda(*ordinal);
    if (!rates)
      return rates.error();
    if (!rates->missing.empty())
      say("not measured: " + rates->missing);
    for (const auto& one : rates->memory) // one set, read in several ways: the best one counts
      if (report_.reads.empty() || one.per_second > report_.reads[0].bytes_per_second)
        report_.reads = {
            {gpu::cuda_probe_sizes{}.memory_bytes, one.per_second, one.name + ", " + one.how}};
    for (const auto& one : rates->compute)
      report_.computes.push_back({one.name + ", " + one.how, one.per_second});
    report_.links = std::move(rates->link);
    return {};
  }

  caf::error measure_all(const model_choice& model, const std::string& dtype) {
    if (wanted(given_, "prefill") || wanted(given_, "decode") || wanted(given_, "sample") ||
        wanted(given_, "attention") || wanted(given_, "upload")) {
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
    if (probes_reads())
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
    if (auto why = measure_device(of))
      return why;
    if (probes_reads() && !stop_)
      reads_.measure(of.weight_bytes);
    return {};
  }

  /// What needs no tokens.
  caf::error measure_device(subject& of) {
    if (wanted(given_, "attention"))
      for (const auto tokens : given_.prompts) {
        if (stop_)
          return {};
        auto one = measure_attention(of, tokens, given_.reps);
        if (!one)
          return one.error();
        if (auto why = keep(std::optional{std::move(*one)}))
          return why;
      }
    if (!wanted(given_, "upload") || stop_)
      return {};
    auto uploads = measure_upload(of, given_.reps, stop_);
    if (!uploads)
      return uploads.error();
    for (auto& one : *uploads)
      report_.results.push_back(std::move(one));
    return {};
  }

  bool probes_reads() const { return given_.ceilings && probed_->reads_host_memory(); }

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
  std::unique_ptr<gpu::device> probed_;
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
  stop_on_signal stop; // before a device has threads
  auto device = make_device(given);
  if (!device)
    return complain(describe(device.error()),
                    device.error() == gpu::errc::unavailable ? no_device : usage);
  runner work{given, stop.asked(), std::move(*device)};
  const auto why = work.run();
  const auto all = work.finish();
  if (!why || !all.results.empty())
    print(given, all);
  if (why)
    return complain(describe(why), failed);
  return stop.asked() ? stop.code() : ok;
}

} // namespace troupe::cli::bench

#include "cli/simulate.hpp"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/complain.hpp"
#include "cli/exit_codes.hpp"
#include "cli/svg_chart.hpp"
#include "cli/table.hpp"
#include "config/keys.hpp"
#include "policies/fair_metrics.hpp"

namespace troupe::cli {
namespace {

using namespace policies;
using json = nlohmann::ordered_json;

const std::vector<std::string> usual_policies{"fcfs", "rpm-20",      "lcf",        "drr",
                                              "vtc",  "vtc-predict", "vtc-oracle", "vtc-half"};

std::string fixed(double x, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, x);
  return text;
}

std::vector<std::string> heading() {
  return {"SUITE",
          "POLICY",
          "DIFF MAX",
          "DIFF MEAN",
          "VARIANCE",
          "TOK/S",
          "SERVED",
          "DRIFT",
          "OF BOUND",
          "NEWCOMER",
          "FIRST TOKEN S (PER CLIENT)"};
}

std::vector<std::string> row(const fair_suite& suite, const std::string& policy,
                             const fair_metrics& x) {
  std::string waits;
  for (size_t i = 0; i < x.clients.size() && i < 8; ++i)
    waits += (i ? " " : "") + fixed(x.clients[i].first_token_mean_s, 1);
  if (x.clients.size() > 8)
    waits += " ...";
  return {std::string{suite.name},
          policy,
          fixed(x.difference_max, 0),
          fixed(x.difference_mean, 0),
          fixed(x.difference_variance, 0),
          fixed(x.tokens_per_s, 0),
          std::to_string(x.served) + "/" + std::to_string(x.arrived),
          fixed(x.drift, 0),
          suite.backlogged ? fixed(100 * x.drift / x.bound, 0) + "%" : "-",
          fixed(100 * x.newcomer_share, 1) + "%",
          waits};
}

json as_json(const fair_suite& suite, const std::string& policy, const fair_metrics& x) {
  json out = {{"suite", suite.name},
              {"about", suite.about},
              {"policy", policy},
              {"difference_max", x.difference_max},
              {"difference_mean", x.difference_mean},
              {"difference_variance", x.difference_variance},
              {"tokens_per_second", x.tokens_per_s},
              {"served", x.served},
              {"arrived", x.arrived},
              {"drift", x.drift},
              {"drift_bound", x.bound},
              {"newcomer_share", x.newcomer_share},
              {"clients", json::array()}};
  for (size_t i = 0; i < x.clients.size(); ++i)
    out["clients"].push_back({{"name", suite.clients[i].name},
                              {"weight", suite.clients[i].weight},
                              {"arrived", x.clients[i].arrived},
                              {"refused", x.clients[i].refused},
                              {"service_per_second", x.clients[i].service_rate},
                              {"first_token_mean_s", x.clients[i].first_token_mean_s},
                              {"first_token_p99_s", x.clients[i].first_token_p99_s}});
  return out;
}

/// Greatest minus least service so far, per policy.
chart_line gap_line(const fair_suite& suite, const std::string& policy, const fair_run& run) {
  chart_line out{policy, {}};
  for (const auto& now : run.service) {
    double least = INFINITY, most = 0;
    for (size_t i = 0; i < now.size(); ++i) {
      least = std::min(least, now[i] / suite.clients[i].weight);
      most = std::max(most, now[i] / suite.clients[i].weight);
    }
    out.values.push_back(most - least);
  }
  return out;
}

/// The suites that were asked for; says which name is wrong.
std::optional<std::vector<const fair_suite*>> chosen_suites(const std::vector<std::string>& names) {
  std::vector<const fair_suite*> out;
  std::vector<std::string_view> known;
  for (const auto& x : fair_suites()) {
    known.push_back(x.name);
    if (names.empty())
      out.push_back(&x);
  }
  for (const auto& name : names) {
    const auto* suite = find_suite(name);
    if (!suite) {
      std::string all;
      for (const auto x : known)
        all += " " + std::string{x};
      const auto near = config::closest(name, known);
      complain(
          "there is no suite '" + name + "'" +
              (near.empty() ? ": known are" + all : ": did you mean '" + std::string{near} + "'?"),
          usage);
      return std::nullopt;
    }
    out.push_back(suite);
  }
  return out;
}

bool write_file(const std::string& file, const std::string& text) {
  std::ofstream out{file, std::ios::binary};
  out << text;
  out.close();
  if (!out)
    complain("cannot write the plot to " + file, failed);
  return static_cast<bool>(out);
}

} // namespace

int simulate_fairness(const simulate_options& options) {
  const auto suites = chosen_suites(options.suites);
  if (!suites)
    return usage;
  const auto& policies = options.policies.empty() ? usual_policies : options.policies;
  std::vector<std::vector<std::string>> rows{heading()};
  json all = json::array();
  std::vector<chart> charts;
  for (const auto* suite : *suites) {
    charts.push_back({std::string{suite->name} + ": " + std::string{suite->about},
                      "seconds",
                      "difference of service",
                      1,
                      {}});
    for (const auto& policy : policies) {
      const auto run = run_suite(*suite, policy, options.seed);
      if (!run)
        return complain("there is no policy '" + policy +
                            "': known are fcfs, lcf, vtc, vtc-predict, vtc-oracle, vtc-half, rpm-N "
                            "and drr-N",
                        usage);
      rows.push_back(row(*suite, policy, run->metrics));
      all.push_back(as_json(*suite, policy, run->metrics));
      charts.back().lines.push_back(gap_line(*suite, policy, *run));
    }
  }
  if (options.json)
    std::cout << all.dump(2) << "\n";
  else
    std::cout << render_table(rows, isatty(STDOUT_FILENO) == 1);
  return options.svg_file.empty() || write_file(options.svg_file, render_svg(charts)) ? ok : failed;
}

} // namespace troupe::cli

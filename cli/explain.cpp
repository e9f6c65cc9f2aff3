#include "cli/explain.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <vector>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/rfc3339.hpp"
#include "cli/clock_text.hpp"
#include "cli/complain.hpp"
#include "cli/exit_codes.hpp"
#include "cli/http_client.hpp"
#include "cli/table.hpp"
#include "cli/terminal.hpp"

namespace troupe::cli {
namespace {

using json = nlohmann::ordered_json;
using table = std::vector<std::vector<std::string>>;

double number(const json& in, const char* key) {
  const auto found = in.is_object() ? in.find(key) : in.end();
  return found != in.end() && found->is_number() ? found->get<double>() : 0;
}

std::string text(const json& in, const char* key) {
  const auto found = in.is_object() ? in.find(key) : in.end();
  return found != in.end() && found->is_string() && !found->get_ref<const std::string&>().empty()
             ? found->get<std::string>()
             : "-";
}

std::string count(const json& in, const char* key) {
  return std::to_string(static_cast<uint64_t>(std::max(number(in, key), 0.0)));
}

/// To three digits: a warm request takes less than a millisecond to a worker.
std::string span(double seconds) {
  if (seconds < 1e-6)
    return "0 ms";
  return seconds < 1 ? three_digits(seconds * 1e3) + " ms" : three_digits(seconds) + " s";
}

std::string error(double predicted, double real) {
  if (predicted <= 0 || real <= 0)
    return "-";
  char out[32];
  std::snprintf(out, sizeof out, "%+.0f%%", std::clamp(predicted / real - 1, -9.99, 99.99) * 100);
  return out;
}

/// "disk 2.47 GB at 3.2 GB/s, pool ...": where bytes came from, with rates where `seconds` is
/// known.
std::string bytes_text(const json& bytes, double seconds) {
  std::string out;
  if (!bytes.is_object())
    return out;
  double sum = 0;
  for (const auto& [tier, value] : bytes.items()) {
    if (!value.is_number() || value.get<double>() <= 0)
      continue;
    // What was fetched is read again from where it was put.
    sum += tier == "source" ? 0 : value.get<double>();
    std::string name = tier;
    std::replace(name.begin(), name.end(), '_', ' ');
    out += (out.empty() ? "" : ", ") + name + " " + three_digits(value.get<double>() / 1e9) + " GB";
  }
  if (!out.empty() && seconds > 0)
    out += " at " + three_digits(sum / 1e9 / seconds) + " GB/s";
  return out;
}

std::string load_text(const json& request) {
  const auto load = request.value("load", json{});
  if (load.is_object()) {
    auto out = bytes_text(load.value("bytes", json{}), number(load, "read_seconds"));
    if (const auto fetch = number(load, "fetch_seconds"); fetch > 0)
      out += ", fetched in " + span(fetch) + " from " + text(load, "source");
    return out + ", bound in " + span(number(load, "bind_seconds"));
  }
  const auto forecast = request.value("forecast", json{});
  return forecast.is_object() ? bytes_text(forecast.value("bytes", json{}), 0) : std::string{};
}

/// How long the load kept this request waiting: it may have begun before.
double load_wait(const json& request) {
  const auto load = request.value("load", json{});
  const auto took = number(load, "total_seconds") - number(load, "queue_seconds");
  return std::clamp(
      took, 0.0,
      std::max(number(request, "first_token_seconds"), number(request, "queue_seconds")));
}

void add_steps(const json& request, table& out) {
  const auto forecast = request.value("forecast", json{});
  const bool foreseen = forecast.is_object();
  const auto text_seconds = number(request, "text_seconds");
  const auto row = [&](const std::string& name, const std::string& key, double real,
                       const std::string& detail) {
    auto predicted = number(forecast, key.c_str());
    if (key == "queue_seconds") // as foretold it begins before the text is ready
      predicted = std::max(0.0, predicted - text_seconds);
    out.push_back({name, foreseen && !key.empty() ? span(predicted) : "-", span(real),
                   !key.empty() ? error(predicted, real) : "-", detail.empty() ? "-" : detail});
  };
  const auto load = load_wait(request);
  row("admission", "", number(request, "admission_seconds"),
      "reading it, limits of tenant " + text(request, "tenant"));
  row("text", "", text_seconds, "template and tokenizer");
  row("queue", "queue_seconds",
      std::max(0.0, number(request, "queue_seconds") - load - text_seconds), "");
  row("load", "load_seconds", load, load_text(request));
  row("prefill", "prefill_seconds", number(request, "prefill_seconds"),
      count(request, "prompt_tokens") + " prompt tokens, " + count(request, "cached_tokens") +
          " of them from the cache");
  row("first token", "first_token_seconds", number(request, "first_token_seconds"), "");
  const auto rate = number(request, "decode_tokens_per_second");
  row("total", "", number(request, "total_seconds"),
      count(request, "completion_tokens") + " tokens" +
          (rate > 0 ? ", " + three_digits(rate) + " a second after the first" : "") +
          (number(request, "choices") > 1 ? ", " + count(request, "choices") + " choices" : ""));
}

} // namespace

std::string explain_text(const json& request, bool colour) {
  const auto forecast = request.value("forecast", json{});
  auto state = text(request, "state");
  if (const auto why = text(request, "failure"); why != "-")
    state += " (" + why + ")";
  std::string out = render_table({{"REQUEST", "ANSWER", "MODEL", "STATE", "WORKER"},
                                  {text(request, "id"), text(request, "answer_id"),
                                   text(request, "model"), state, text(request, "worker")}},
                                 colour) +
                    "\n";
  table steps{{"STEP", "PREDICTED", "REAL", "ERROR", "DETAIL"}};
  add_steps(request, steps);
  out += render_table(steps, colour) + "\n";
  out += "weights were: " +
         (forecast.is_object() ? text(forecast, "model_state") : std::string{"not looked at"}) +
         "; preemptions: " + count(request, "preemptions") +
         "; changes of worker: " + count(request, "worker_changes") + "\n";
  return out;
}

std::string requests_text(const json& rows, time_point now, bool colour) {
  table out{{"REQUEST", "MODEL", "STATE", "WEIGHTS", "PREDICTED", "FIRST TOKEN", "TOTAL", "WHEN"}};
  for (const auto& row : rows) {
    if (!row.is_object())
      continue;
    const auto forecast = row.value("forecast", json{});
    const auto when = parse_rfc3339(text(row, "received"));
    const auto first = number(row, "first_token_seconds");
    out.push_back({text(row, "id"), text(row, "model"), text(row, "state"),
                   forecast.is_object() ? text(forecast, "model_state") : "-",
                   forecast.is_object() ? span(number(forecast, "first_token_seconds")) : "-",
                   first > 0 ? span(first) : "-", span(number(row, "total_seconds")),
                   when ? relative_time(*when, now) : "-"});
  }
  return render_table(out, colour);
}

int explain_request(const inspect_options& options, const std::string& id, bool last) {
  const auto url = normal_url(options.url);
  const bool whole = id.empty();
  const auto answer =
      admin_request("GET", url + "/admin/requests" + (whole ? "" : "/" + url_escape(id)));
  if (error_code(answer) == "request_not_found")
    return complain(error_message(answer), not_found);
  if (answer.status != 200)
    return report_failure(answer, url);
  auto parsed = json::parse(answer.body, nullptr, false);
  if (!parsed.is_object() || (whole && !parsed.value("data", json{}).is_array()))
    return complain("what answers at " + url + " is not troupe", failed);
  if (whole)
    parsed = json(parsed["data"]);
  if (whole && last) {
    if (parsed.empty())
      return complain("no request has been made yet", not_found);
    parsed = json(parsed.front());
  }
  const bool colour = colours_wanted(STDOUT_FILENO);
  std::cout << (options.json ? parsed.dump(2) + "\n"
                : parsed.is_array()
                    ? requests_text(parsed, std::chrono::system_clock::now(), colour)
                    : explain_text(parsed, colour));
  return ok;
}

} // namespace troupe::cli

#include <cstdio>

#include <nlohmann/json.hpp>

#include "cli/bench/result.hpp"

namespace troupe::cli::bench {
namespace {

using json = nlohmann::ordered_json;

json machine_of(const report& all) {
  return {{"cpu", all.host.cpu},
          {"cores", all.host.cores},
          {"memory_bytes", all.host.memory_bytes},
          {"last_cache_bytes", all.host.last_cache_bytes},
          {"huge_pages", all.host.huge_pages},
          {"system", all.host.system},
          {"device", all.device},
          {"threads", all.threads}};
}

json ceilings_of(const report& all) {
  json out{{"read", json::array()}, {"compute", json::array()}, {"link", json::array()}};
  for (const auto& one : all.reads)
    out["read"].push_back({{"set_bytes", one.set_bytes},
                           {"bytes_per_second", one.bytes_per_second},
                           {"pattern", one.pattern}});
  for (const auto& one : all.computes)
    out["compute"].push_back({{"name", one.name}, {"ops_per_second", one.ops_per_second}});
  for (const auto& one : all.links)
    out["link"].push_back(
        {{"name", one.name}, {"how", one.how}, {"bytes_per_second", one.per_second}});
  return out;
}

json profile_of(const result& one) {
  json ops = json::array();
  for (const auto& op : one.profile)
    ops.push_back({{"op", op.name},
                   {"calls", op.calls},
                   {"seconds", std::chrono::duration<double>(op.time).count()},
                   {"bytes", op.bytes},
                   {"flops", op.flops}});
  return {{"seconds", one.profile_seconds}, {"steps", one.profile_steps}, {"ops", std::move(ops)}};
}

json result_of(const report& all, const result& one) {
  const auto reached = shares_of(all, one);
  json out{{"model", one.model},         {"dtype", one.dtype},
           {"measure", one.measure},     {"variant", one.variant},
           {"batch", one.batch},         {"tokens", one.tokens},
           {"unit", one.unit},           {"median", one.value.median},
           {"min", one.value.least},     {"max", one.value.most},
           {"reps", one.reps},           {"seconds", one.seconds},
           {"bytes", one.bytes},         {"flops", one.flops},
           {"read_share", reached.read}, {"compute_share", reached.compute},
           {"others_share", one.others}};
  if (!one.profile.empty())
    out["profile"] = profile_of(one);
  return out;
}

/// A field of RFC 4180: quoted where it has to be.
std::string field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos)
    return text;
  std::string out = "\"";
  for (const char c : text) {
    out += c;
    if (c == '"')
      out += c;
  }
  return out + "\"";
}

std::string field(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

} // namespace

std::string as_json(const report& all) {
  json out{{"troupe", all.version},
           {"machine", machine_of(all)},
           {"ceilings", ceilings_of(all)},
           {"results", json::array()}};
  for (const auto& one : all.results)
    out["results"].push_back(result_of(all, one));
  return out.dump(2) + "\n";
}

std::string as_csv(const report& all) {
  std::string out = "cpu,device,model,dtype,measure,variant,batch,tokens,unit,median,min,max,reps,"
                    "seconds,bytes,flops,read_share,compute_share,others_share\r\n";
  for (const auto& one : all.results) {
    const auto reached = shares_of(all, one);
    for (const auto& text :
         {all.host.cpu, all.device, one.model, one.dtype, one.measure, one.variant,
          std::to_string(one.batch), std::to_string(one.tokens), one.unit})
      out += field(text) + ",";
    out += field(one.value.median) + "," + field(one.value.least) + "," + field(one.value.most) +
           "," + std::to_string(one.reps) + "," + field(one.seconds) + "," + field(one.bytes) +
           "," + field(one.flops) + "," + field(reached.read) + "," + field(reached.compute) + "," +
           field(one.others) + "\r\n";
  }
  return out;
}

} // namespace troupe::cli::bench

// A tenant's budget: what is spent, how tokens cost, and for how long it has to hold.
#include <charconv>
#include <cmath>

#include "config/keys.hpp"
#include "config/tenant_reader.hpp"
#include "config/units.hpp"

namespace troupe::config {
namespace {

constexpr uint32_t hours_max = 366 * 24;

void skip_blanks(std::string_view& text) {
  while (!text.empty() && text.front() == ' ')
    text.remove_prefix(1);
}

bool take(std::string_view& text, std::string_view word) {
  skip_blanks(text);
  if (!text.starts_with(word))
    return false;
  text.remove_prefix(word.size());
  skip_blanks(text);
  return true;
}

/// [NUMBER "*"] ("input" | "cached" | "output")
bool take_term(std::string_view& text, budget_settings& to) {
  double factor = 1;
  skip_blanks(text);
  if (!text.empty() && text.front() >= '0' && text.front() <= '9') {
    const auto [stop, why] =
        std::from_chars(text.data(), text.data() + text.size(), factor, std::chars_format::fixed);
    if (why != std::errc{} || factor > 1e6)
      return false;
    text.remove_prefix(static_cast<size_t>(stop - text.data()));
    if (!take(text, "*"))
      return false;
  }
  for (const auto& [name, price] : {std::pair{"input", &to.input}, std::pair{"cached", &to.cached},
                                    std::pair{"output", &to.output}})
    if (take(text, name)) {
      const bool again = *price != 0;
      *price = factor;
      return !again;
    }
  return false;
}

/// "input + 4*output + 0.1*cached": a sum in which every kind stands once at most; what is left
/// out costs nothing.
bool read_cost(std::string_view text, budget_settings& to) {
  to.input = to.cached = to.output = 0;
  do
    if (!take_term(text, to))
      return false;
  while (take(text, "+"));
  return text.empty() && to.input + to.cached + to.output > 0;
}

bool read_period(const std::string& text, budget_settings& to) {
  to.per = text;
  if (text == "day" || text == "week" || text == "month")
    return true;
  const auto span = parse_duration(text);
  if (!span || *span % std::chrono::hours{1} != std::chrono::milliseconds{0})
    return false;
  const auto hours = std::chrono::duration_cast<std::chrono::hours>(*span).count();
  to.hours = static_cast<uint32_t>(hours);
  return hours >= 1 && hours <= hours_max;
}

bool read_percent(std::string_view text, uint32_t& to) {
  if (!text.ends_with('%'))
    return false;
  text.remove_suffix(1);
  const auto [stop, why] = std::from_chars(text.data(), text.data() + text.size(), to);
  return why == std::errc{} && stop == text.data() + text.size() && to >= 1 && to <= 100;
}

} // namespace

budget_settings tenant_reader::budget(const yaml_node& node, const std::string& path) {
  budget_settings out;
  const auto read = [&](const char* name, auto parse, const char* instead) {
    return field{name, [this, path, name, parse, instead](const yaml_node& x) {
                   const auto* given = text(x, path + "." + name);
                   if (given && !parse(*given))
                     problem_(x.at, path + "." + name + ": '" + *given +
                                        "' is not understood: " + instead);
                 }};
  };
  const auto before = node.at;
  section(node, path,
          {{"tokens", [&](const yaml_node& x) { amount(x, path + ".tokens", out.tokens); }},
           read(
               "per", [&](const std::string& x) { return read_period(x, out); },
               "write day, week or month (UTC), or a sliding span of whole hours such as 24h or "
               "30d"),
           read(
               "soft", [&](const std::string& x) { return read_percent(x, out.soft_percent); },
               "write a share of it such as 80%"),
           read(
               "cost",
               [&](const std::string& x) {
                 out.cost = x;
                 return read_cost(x, out);
               },
               "write a sum such as \"input + 4*output + 0.1*cached\"")});
  if (node.kind == yaml_node::type::map && (out.tokens == 0 || out.per.empty()))
    problem_(before, "'" + path + "' takes tokens and per: write {tokens: 50M, per: month}");
  return out;
}

std::string show_budget(const budget_settings& x) {
  if (x.tokens == 0)
    return {};
  return "    budget: {tokens: " + std::to_string(x.tokens) + ", per: " + yaml_text(x.per) +
         (x.soft_percent > 0 ? ", soft: " + std::to_string(x.soft_percent) + "%" : "") +
         ", cost: " + yaml_text(x.cost) + "}\n";
}

} // namespace troupe::config

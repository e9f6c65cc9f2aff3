#include "cli/svg_chart.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace troupe::cli {
namespace {

constexpr double width = 560, height = 300, left = 64, right = 120, top = 34, bottom = 44;
/// Told apart also by those who do not see red and green alike (Okabe and Ito's palette).
constexpr std::array colours{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                             "#56b4e9", "#e69f00", "#000000", "#999999"};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text)
    out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string{c};
  return out;
}

std::string number(double x, const char* form = "%.1f") {
  char text[32];
  std::snprintf(text, sizeof text, form, x);
  return text;
}

std::string label(double x, double y, const char* anchor, const std::string& text,
                  const char* more = "") {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\"" +
         more + ">" + escaped(text) + "</text>\n";
}

/// 1, 2 or 5 times a power of ten, so that about five of them make up `range`.
double tick_of(double range) {
  const auto power = std::pow(10, std::floor(std::log10(range / 5)));
  const auto part = range / 5 / power;
  return power * (part > 5 ? 10 : part > 2 ? 5 : part > 1 ? 2 : 1);
}

std::string short_number(double x) {
  return x >= 1e6 ? number(x / 1e6, "%gM") : x >= 1e4 ? number(x / 1e3, "%gk") : number(x, "%g");
}

void render(const chart& what, double x0, double y0, std::string& out) {
  double x_max = what.step, y_max = 0;
  for (const auto& line : what.lines) {
    if (!line.values.empty())
      x_max = std::max(x_max, what.step * static_cast<double>(line.values.size() - 1));
    for (const auto y : line.values)
      y_max = std::max(y_max, std::isfinite(y) ? y : 0);
  }
  y_max = y_max > 0 ? y_max : 1;
  const auto x_at = [&](double x) { return x0 + left + x / x_max * (width - left - right); };
  const auto y_at = [&](double y) {
    return y0 + height - bottom - y / y_max * (height - top - bottom);
  };
  out += label(x0 + left, y0 + 20, "start", what.title, " font-weight=\"bold\"");
  const auto y_tick = tick_of(y_max), x_tick = tick_of(x_max);
  for (double y = 0; y <= y_max * 1.0001; y += y_tick) {
    out += "<path d=\"M" + number(x_at(0)) + " " + number(y_at(y)) + "H" + number(x_at(x_max)) +
           "\" stroke=\"#ddd\"/>\n";
    out += label(x_at(0) - 6, y_at(y) + 4, "end", short_number(y));
  }
  for (double x = 0; x <= x_max * 1.0001; x += x_tick)
    out += label(x_at(x), y_at(0) + 16, "middle", short_number(x));
  out += label((x_at(0) + x_at(x_max)) / 2, y_at(0) + 34, "middle", what.x_label);
  out +=
      label(x0 + 14, y_at(y_max / 2), "middle", what.y_label,
            (" transform=\"rotate(-90 " + number(x0 + 14) + " " + number(y_at(y_max / 2)) + ")\"")
                .c_str());
  for (size_t i = 0; i < what.lines.size(); ++i) {
    const auto* colour = colours[i % colours.size()];
    std::string path;
    for (size_t k = 0; k < what.lines[i].values.size(); ++k)
      path += (k == 0 ? "M" : "L") + number(x_at(what.step * static_cast<double>(k))) + " " +
              number(y_at(what.lines[i].values[k]));
    out +=
        "<path d=\"" + path + "\" fill=\"none\" stroke-width=\"1.5\" stroke=\"" + colour + "\"/>\n";
    if (i < 14)
      out += label(x_at(x_max) + 10, y0 + top + 10 + 16 * static_cast<double>(i), "start",
                   what.lines[i].name, (std::string{" fill=\""} + colour + "\"").c_str());
  }
}

} // namespace

std::string render_svg(const std::vector<chart>& charts) {
  const auto rows = (charts.size() + 1) / 2;
  const auto size =
      number(2 * width, "%.0f") + " " + number(static_cast<double>(rows) * height, "%.0f");
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + size +
                    "\" font-family=\"sans-serif\" font-size=\"11\">\n"
                    "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  for (size_t i = 0; i < charts.size(); ++i)
    render(charts[i], static_cast<double>(i % 2) * width, static_cast<double>(i / 2) * height, out);
  return out + "</svg>\n";
}

} // namespace troupe::cli

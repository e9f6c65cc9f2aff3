// json.dumps, with the options that chat templates may pass to tojson.
#include <algorithm>
#include <cmath>

#include "engine/chat_template/operators.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

class json_writer {
public:
  json_writer(runtime& rt, const json_style& style) : rt_{rt}, style_{style} {}

  void write(const value& x) {
    rt_.charge(1);
    switch (x.type()) {
    case kind::none:
      out_ += "null";
      return;
    case kind::boolean:
      out_ += x.as_bool() ? "true" : "false";
      return;
    case kind::integer:
      out_ += std::to_string(x.as_int());
      return;
    case kind::real:
      out_ += number(x.as_real());
      return;
    case kind::string:
      return write_string(x.text());
    case kind::dict:
      return write_dict(x.as<dict_object>());
    case kind::sequence:
      if (x.is(flavor::list) || x.is(flavor::tuple) || x.is(flavor::group))
        return write_list(x.items());
      [[fallthrough]];
    default:
      fail("Object of type " + type_name(x) + " is not JSON serializable");
    }
  }

  std::string take() { return std::move(out_); }

private:
  static std::string number(double x) {
    if (std::isnan(x))
      return "NaN";
    if (std::isinf(x))
      return x < 0 ? "-Infinity" : "Infinity";
    return real_text(x);
  }

  void line() {
    if (!style_.indent)
      return;
    if (out_.size() + level_ * style_.indent->size() > rt_.allowed().output_bytes_max)
      fail_limit("tojson: the text becomes too long");
    rt_.charge(level_ * style_.indent->size() / 8);
    out_ += '\n';
    for (size_t i = 0; i < level_; ++i)
      out_ += *style_.indent;
  }

  template <class Items, class Write>
  void write_group(char open, char close, const Items& items, Write write_one) {
    out_ += open;
    ++level_;
    bool first = true;
    for (const auto& item : items) {
      if (!first)
        out_ += style_.item_separator;
      first = false;
      line();
      write_one(item);
    }
    --level_;
    if (!first)
      line();
    out_ += close;
  }

  void write_list(const std::vector<value>& items) {
    write_group('[', ']', items, [&](const value& item) { write(item); });
  }

  void write_dict(const dict_object& dict) {
    std::vector<const std::pair<value, value>*> entries;
    for (const auto& entry : dict.entries)
      entries.push_back(&entry);
    if (style_.sorted)
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return less(a->first, b->first); });
    write_group('{', '}', entries, [&](const auto* entry) {
      write_string(key_text(entry->first));
      out_ += style_.key_separator;
      write(entry->second);
    });
  }

  static std::string key_text(const value& key) {
    switch (key.type()) {
    case kind::string:
      return key.text();
    case kind::none:
      return "null";
    case kind::boolean:
      return key.as_bool() ? "true" : "false";
    case kind::integer:
      return std::to_string(key.as_int());
    case kind::real:
      return number(key.as_real());
    default:
      fail("keys must be str, int, float, bool or None, not " + type_name(key));
    }
  }

  void write_unit(uint32_t unit) {
    static constexpr char digits[] = "0123456789abcdef";
    out_ += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4)
      out_ += digits[(unit >> shift) & 0xf];
  }

  void write_string(std::string_view text) {
    rt_.charge(text.size() / 8);
    if (out_.size() + text.size() > rt_.allowed().output_bytes_max)
      fail_limit("tojson: the text becomes too long");
    static constexpr std::string_view special = "\"\\\n\r\t\f\b";
    static constexpr std::string_view letters = "\"\\nrtfb";
    out_ += '"';
    for (size_t at = 0; at < text.size();) {
      const size_t from = at;
      const uint32_t point = next_point(text, at);
      if (const size_t known = point < 0x80 ? special.find(static_cast<char>(point)) : special.npos;
          known != special.npos) {
        out_ += '\\';
        out_ += letters[known];
      } else if (point < 0x20 || (style_.ascii && point >= 0x7f && point < 0x10000)) {
        write_unit(point);
      } else if (style_.ascii && point >= 0x10000) {
        write_unit(0xd800 + ((point - 0x10000) >> 10));
        write_unit(0xdc00 + ((point - 0x10000) & 0x3ff));
      } else {
        out_ += text.substr(from, at - from);
      }
    }
    out_ += '"';
  }

  runtime& rt_;
  const json_style& style_;
  std::string out_;
  size_t level_ = 0;
};

} // namespace

std::string to_json(runtime& rt, const value& x, const json_style& style) {
  rt.charge(x.weight());
  json_writer writer{rt, style};
  writer.write(x);
  return writer.take();
}

} // namespace troupe::engine::jinja

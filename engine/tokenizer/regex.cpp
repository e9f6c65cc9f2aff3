#include "engine/tokenizer/regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "engine/tokenizer/errors.hpp"
#include "engine/tokenizer/regex_syntax.hpp"
#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {

namespace {

/// What a match needs besides the code; PCRE2 wants one per thread.
struct scratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, 8 << 20, nullptr);
  scratch() {
    pcre2_jit_stack_assign(context, nullptr, stack);
    pcre2_set_match_limit(context, 50'000'000);
    pcre2_set_heap_limit(context, 512 << 10); // KiB
  }
  ~scratch() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
};

} // namespace

struct regex::code {
  pcre2_code* compiled = nullptr;
  ~code() { pcre2_code_free(compiled); }
};

caf::expected<regex> regex::compile(std::string_view pattern, bool literal,
                                    const std::string& origin) {
  const auto translated =
      literal ? caf::expected<std::string>{std::string{pattern}} : to_pcre2_syntax(pattern, origin);
  if (!translated)
    return translated.error();
  const auto& source = *translated;
  const uint32_t options = literal ? PCRE2_LITERAL | PCRE2_UTF : PCRE2_UTF | PCRE2_UCP;
  int error = 0;
  PCRE2_SIZE at = 0;
  auto holder = std::make_shared<code>();
  holder->compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                                   options, &error, &at, nullptr);
  if (!holder->compiled) {
    PCRE2_UCHAR text[256] = {};
    pcre2_get_error_message(error, text, sizeof text);
    return caf::make_error(
        tokenizer_errc::malformed,
        origin + ": the pattern '" + std::string{pattern.substr(0, 200)} +
            "' is not a valid regular expression: " + reinterpret_cast<const char*>(text));
  }
  // Without JIT (forbidden by the system, say) the interpreter does the same, slower.
  pcre2_jit_compile(holder->compiled, PCRE2_JIT_COMPLETE);
  regex out;
  out.code_ = std::move(holder);
  return out;
}

regex::match regex::find(std::string_view text, size_t from) const {
  thread_local scratch local;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int found = pcre2_match(code_->compiled, subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                          local.data, local.context);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT)
    found = pcre2_match(code_->compiled, subject, text.size(), from,
                        PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, local.data, local.context);
  if (found < 0)
    return {};
  const auto* bounds = pcre2_get_ovector_pointer(local.data);
  return {bounds[0], bounds[1]};
}

std::string replace_all(const regex& pattern, std::string_view text, std::string_view content) {
  std::string out;
  size_t done = 0;
  for (size_t from = 0; from <= text.size();) {
    const auto hit = pattern.find(text, from);
    if (!hit)
      break;
    out += text.substr(done, hit.begin - done);
    out += content;
    done = hit.end;
    if (hit.end > hit.begin) {
      from = hit.end;
    } else { // an empty match: step over one character
      if (hit.end == text.size())
        break;
      from = hit.end + utf8::length(text[hit.end]);
    }
  }
  out += text.substr(done);
  return out;
}

} // namespace troupe::engine

#pragma once
#include <cstdint>
#include <string>

#include "engine/chat_template/errors.hpp"

namespace troupe::engine::jinja {

/// How a template stops inside this folder. It is thrown because an expression nests as deep as its
/// author likes; chat_template.cpp catches every one and turns it into a caf::error.
struct failure {
  template_errc code = template_errc::runtime;
  std::string text;
  uint32_t line = 0; ///< 0: the line that was being rendered
};

[[noreturn]] inline void fail(std::string text) {
  throw failure{template_errc::runtime, std::move(text), 0};
}
[[noreturn]] inline void fail_limit(std::string text) {
  throw failure{template_errc::limit, std::move(text), 0};
}
[[noreturn]] inline void fail_at(template_errc code, uint32_t line, std::string text) {
  throw failure{code, std::move(text), line};
}

} // namespace troupe::engine::jinja

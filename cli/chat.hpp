#pragma once
#include <functional>
#include <string>

#include "cli/answer.hpp"
#include "cli/run.hpp"

namespace troupe::cli {

/// Called with the source while an answer is in progress and with null after it.
using attend_fn = std::function<void(answerer*)>;

/// One prompt, one answer on standard output; returns the exit code.
int answer_once(answerer& source, const run_options& options, const std::string& prompt,
                const attend_fn& attend);

/// A conversation on the terminal, until /bye or Ctrl-D; returns the exit code.
int converse(answerer& source, const run_options& options, const attend_fn& attend);

/// "[loaded in 41 ms, first token after 12 ms, 87 tokens, 312.4 tokens/s]"
std::string speed_text(const answer_report& report);

} // namespace troupe::cli

#pragma once
#include <cstdint>

#include "policies/step_cost.hpp"

namespace troupe::policies {

struct step_budget_config {
  /// Most that a step should take while sequences decode; 0 = `patience` times what a step takes
  /// once all of them decode.
  duration target{0};
  /// Below 2, so that with the odd late step gaps stay under two such steps.
  double patience = 1.8;
  /// Prompts get so many rows of every step, or none of them would ever end under a target that
  /// the decoding alone exceeds.
  uint32_t prompt_rows_min = 16;
  /// So many times as long a step may take that computes an urgent prompt, which gets so many rows
  /// of it whatever they take: a short prompt is worth no second step.
  double haste = 2.25;
  uint32_t urgent_rows_min = 64;
};

/// How many rows of a prompt share a step with decoding sequences: as many as let the step end in
/// time, so that texts keep their pace while prompts are computed (stall-free schedules: Agrawal et
/// al., "Sarathi-Serve", OSDI'24, section 4.3, with the token budget found by measurement instead
/// of by profiling ahead).
///
/// `decoding` are the rows of the sequences that decode, `prompt_context` the tokens of the first
/// prompt that are computed already. At most `rows_max`, and all of those where nobody decodes.
///
/// Without a target the measure is `all`, a step in which every sequence at hand decodes, those
/// whose prompts are not computed yet included: that is the pace that they will share in the end.
/// By the pace of the few that decode now, the prompts of many would come in small pieces, and each
/// step would be spent on few rows.
uint32_t prompt_rows(const step_budget_config& config, const step_cost& cost, step_shape decoding,
                     step_shape all, uint64_t prompt_context, uint32_t rows_max,
                     bool urgent = false);

} // namespace troupe::policies

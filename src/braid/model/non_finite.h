// Where a value that is not finite comes from: looked for after a step has met one, so speed does not matter.
// Everything is read through Memory, so any backend will do. Each function describes the first one found, and
// returns nothing where all are finite.
#pragma once
#include <optional>
#include <string>

#include "braid/model/host_batch.h"
#include "braid/ops/backend.h"

namespace braid::model {

// "parameter model.layers.3.mlp.down_proj.weight is not finite (NaN at row 2, column 5)", in the list's
// order.
std::optional<std::string> non_finite_parameter(Memory& memory,
                                                const std::vector<NamedParameter>& parameters);

// The same of gradients, in the order of backward: the head first, the embedding last.
std::optional<std::string> non_finite_gradient(Memory& memory, const std::vector<NamedParameter>& gradients);

// Rows of a micro-batch as sequences and tokens of a step's batch.
struct BatchPlace {
  std::int64_t first_sequence = 0, sequence_length = 0;
};

struct ForwardOptions {
  KeepPlan keep{};  // of the training step, in whose memory this runs
  BatchPlace place{};
};

// Runs forward again, block by block, and looks at what each sublayer puts out, then at the losses, which are
// overwritten with the same values: "the output of layer 3 (linear_attention) is the first that is not finite
// (NaN at sequence 0, token 12, channel 5)".
std::optional<std::string> non_finite_output(Context&, Arena& step, TokenLosses out, const ModelConfig&,
                                             const Parameters&, const Policy&, const Batch&, ForwardOptions);

}  // namespace braid::model

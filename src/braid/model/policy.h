// Everything about how the model runs, resolved once from its config: the layers read it and re-derive
// nothing.
#pragma once
#include <optional>
#include <vector>

#include "braid/model/block.h"

namespace braid::model {

struct Policy {
  std::vector<Block::Policy> blocks;
  DType activations = DType::f32;
  double norm_epsilon = 1e-6;
  std::optional<std::int64_t> frozen_embedding{};  // padding token: its embedding is never trained
};

// Inverse frequency of each rotary pair, and the factor on cos and sin (RoPE: Su et al. 2021; YaRN: Peng et
// al. 2023).
struct RotaryFrequencies {
  std::vector<double> inverse;
  double factor = 1;
};
RotaryFrequencies rotary_frequencies(const RopeConfig& rope, std::int64_t head_dim);

// Resolves the policy for tokens at positions [0, positions). Rotary tables are made in `arena`, which must
// outlive the policy; `dtype` is that of the activations.
Policy make_policy(Context& ctx, Arena& arena, const ModelConfig& config, std::int64_t positions,
                   DType dtype);

}  // namespace braid::model

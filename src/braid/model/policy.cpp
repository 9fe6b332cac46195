#include "braid/model/policy.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace braid::model {
namespace {

// Dimension pair that turns `turns` times over the original context.
double yarn_dimension(const RopeConfig& rope, std::int64_t head_dim, double turns) {
  const double wavelength = static_cast<double>(rope.original_context) / (turns * 2 * std::numbers::pi);
  return static_cast<double>(head_dim) * std::log(wavelength) / (2 * std::log(rope.theta));
}

// Stretches slow pairs by the factor, leaves fast ones, and ramps between.
void apply_yarn(const RopeConfig& rope, std::int64_t head_dim, std::vector<double>& inverse) {
  double low = yarn_dimension(rope, head_dim, rope.beta_fast);
  double high = yarn_dimension(rope, head_dim, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(head_dim - 1));
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < inverse.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    inverse[i] *= (1 - ramp) + ramp / rope.factor;
  }
}

std::optional<ops::RotaryTable> make_table(Context& ctx, Arena& arena, const RopeConfig& rope,
                                           std::int64_t head_dim, std::int64_t positions, DType dtype) {
  if (rope.type == RopeType::none) return std::nullopt;
  const auto frequencies = rotary_frequencies(rope, head_dim);
  const Tensor cos = arena.make(accumulator_of(dtype), {positions, head_dim / 2});
  const Tensor sin = arena.make(accumulator_of(dtype), {positions, head_dim / 2});
  ops::rotary_table(ctx, cos, sin, frequencies.inverse, frequencies.factor);
  return ops::RotaryTable{cos, sin};
}

}  // namespace

RotaryFrequencies rotary_frequencies(const RopeConfig& rope, std::int64_t head_dim) {
  RotaryFrequencies f;
  for (std::int64_t i = 0; i < head_dim / 2; ++i) {
    f.inverse.push_back(std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
  }
  if (rope.type == RopeType::yarn) {
    apply_yarn(rope, head_dim, f.inverse);
    f.factor = rope.attention_factor;
  }
  return f;
}

Policy make_policy(Context& ctx, Arena& arena, const ModelConfig& c, std::int64_t positions, DType dtype) {
  Policy policy{.blocks = {}, .activations = dtype, .norm_epsilon = c.norm_epsilon};
  // As the published models were built (torch's padding_idx); a tied head trains the row all the same.
  if (c.pad_id && *c.pad_id < c.vocabulary_size && !c.tied_embeddings) policy.frozen_embedding = c.pad_id;
  std::optional<ops::RotaryTable> full, sliding;
  const auto table = [&](const RopeConfig& rope) {
    return make_table(ctx, arena, rope, c.attention.head_dim, positions, dtype);
  };
  const bool any_full = c.count(LayerType::full_attention) != 0,
             any_sliding = c.count(LayerType::sliding_attention) != 0;
  if (any_full) full = table(c.attention.rope_full);
  if (any_sliding) {
    const bool shared = any_full && c.attention.rope_sliding == c.attention.rope_full;
    sliding = shared ? full : table(c.attention.rope_sliding);
  }
  for (const auto type : c.layers) {
    Block::Policy block{.norm = c.attention.norm, .norm_epsilon = c.norm_epsilon, .mixer = {}};
    if (type == LayerType::linear_attention) {
      block.norm = c.linear.norm;
      block.mixer = nn::GatedDeltaNet::Policy{.key_heads = c.linear.key_heads,
                                              .value_heads = c.linear.value_heads,
                                              .key_dim = c.linear.key_dim,
                                              .value_dim = c.linear.value_dim,
                                              .beta_scale = c.linear.negative_eigenvalues ? 2.0 : 1.0,
                                              .norm_epsilon = kOutputNormEpsilon};
    } else {
      const bool windowed = type == LayerType::sliding_attention;
      block.mixer = nn::Attention::Policy{.head_dim = c.attention.head_dim,
                                          .window = windowed ? c.attention.window : 0,
                                          .rotary = windowed ? sliding : full,
                                          .norm_epsilon = c.norm_epsilon};
    }
    policy.blocks.push_back(block);
  }
  return policy;
}

}  // namespace braid::model

#include "braid/ops/op_table.h"

#include "braid/backends/cuda/kernels.h"

namespace braid::cuda {

const OpTable* op_table() {
  static constexpr OpTable table{
      .matmul = matmul,
      .linear_group = linear_group,
      .embedding_forward = embedding_forward,
      .embedding_backward = embedding_backward,
      .rms_norm_forward = rms_norm_forward,
      .rms_norm_backward = rms_norm_backward,
      .gated_rms_norm_forward = gated_rms_norm_forward,
      .gated_rms_norm_backward = gated_rms_norm_backward,
      .gated_rms_norm_linear_backward = gated_rms_norm_linear_backward,
      .rotary_table = rotary_table,
      .rotary = rotary,
      .norm_rotary_forward = norm_rotary_forward,
      .attention_forward = attention_forward,
      .attention_backward = attention_backward,
      .attention_cached = attention_cached,
      .short_convolution_forward = short_convolution_forward,
      .short_convolution_backward = short_convolution_backward,
      .delta_gates_forward = delta_gates_forward,
      .delta_gates_backward = delta_gates_backward,
      .gated_delta_forward = gated_delta_forward,
      .gated_delta_backward = gated_delta_backward,
      .delta_mixer_step = delta_mixer_step,
      .swiglu_forward = swiglu_forward,
      .swiglu_backward = swiglu_backward,
      .swiglu_linear = swiglu_linear,
      .swiglu_linear_backward = swiglu_linear_backward,
      .cross_entropy = cross_entropy,
      .sampling = sampling,
      .add = add,
      .fill = fill,
      .copy = copy,
      .gradient_norm = gradient_norm,
      .tally_step = tally_step,
      .adamw = adamw,
  };
  return &table;
}

const OpTable* scratch_table() {
  static constexpr OpTable table{
      .matmul = scratch::matmul,
      .linear_group = scratch::linear_group,
      .embedding_backward = scratch::embedding_backward,
      .rms_norm_backward = scratch::rms_norm_backward,
      .gated_rms_norm_backward = scratch::gated_rms_norm_backward,
      .gated_rms_norm_linear_backward = scratch::gated_rms_norm_linear_backward,
      .attention_forward = scratch::attention_forward,
      .attention_backward = scratch::attention_backward,
      .attention_cached = scratch::attention_cached,
      .short_convolution_backward = scratch::short_convolution_backward,
      .delta_gates_backward = scratch::delta_gates_backward,
      .gated_delta_forward = scratch::gated_delta_forward,
      .gated_delta_backward = scratch::gated_delta_backward,
      .delta_mixer_step = scratch::delta_mixer_step,
      .swiglu_linear = scratch::swiglu_linear,
      .swiglu_linear_backward = scratch::swiglu_linear_backward,
      .sampling = scratch::sampling,
      .gradient_norm = scratch::gradient_norm,
      .tally_step = scratch::tally_step,
  };
  return &table;
}

}  // namespace braid::cuda

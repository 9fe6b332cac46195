#include "braid/ops/op_table.h"

#include "braid/backends/backends.h"
#include "braid/backends/reference/reference.h"

namespace braid::reference {

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
      .gated_rms_norm_linear_backward = ops::gated_rms_norm_linear_backward_in_parts,
      .rotary_table = rotary_table,
      .rotary = rotary,
      .norm_rotary_forward = ops::norm_rotary_forward_in_parts,
      .attention_forward = attention_forward,
      .attention_backward = attention_backward,
      .attention_cached = attention_cached,
      .short_convolution_forward = short_convolution_forward,
      .short_convolution_backward = short_convolution_backward,
      .delta_gates_forward = delta_gates_forward,
      .delta_gates_backward = delta_gates_backward,
      .gated_delta_forward = gated_delta_forward,
      .gated_delta_backward = gated_delta_backward,
      .delta_mixer_step = ops::delta_mixer_step_in_parts,
      .swiglu_forward = swiglu_forward,
      .swiglu_backward = swiglu_backward,
      .swiglu_linear = ops::swiglu_linear_in_parts,
      .swiglu_linear_backward = ops::swiglu_linear_backward_in_parts,
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

}  // namespace braid::reference

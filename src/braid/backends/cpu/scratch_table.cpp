#include "braid/backends/backends.h"
#include "braid/backends/cpu/kernels.h"

namespace braid::cpu {

const OpTable* scratch_table() {
  static constexpr OpTable table{
      .matmul = scratch::matmul,
      .linear_group = scratch::linear_group,
      .rms_norm_backward = scratch::rms_norm_backward,
      .gated_rms_norm_backward = scratch::gated_rms_norm_backward,
      .attention_forward = scratch::attention_forward,
      .attention_backward = scratch::attention_backward,
      .attention_cached = scratch::attention_cached,
      .short_convolution_forward = scratch::short_convolution_forward,
      .short_convolution_backward = scratch::short_convolution_backward,
      .delta_gates_backward = scratch::delta_gates_backward,
      .gated_delta_forward = scratch::gated_delta_forward,
      .gated_delta_backward = scratch::gated_delta_backward,
      .gradient_norm = scratch::gradient_norm,
  };
  return &table;
}

}  // namespace braid::cpu

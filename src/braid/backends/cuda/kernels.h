// The CUDA implementations of the ops, and the scratch that each makes: scratch::op makes the same tensors as
// op, in the same order, and does nothing else.
#pragma once
#include "braid/ops/op_table.h"

namespace braid::cuda {

const OpTable* op_table();
const OpTable* scratch_table();

decltype(ops::matmul) matmul;
decltype(ops::linear_group) linear_group;
decltype(ops::embedding_forward) embedding_forward;
decltype(ops::embedding_backward) embedding_backward;
decltype(ops::rms_norm_forward) rms_norm_forward;
decltype(ops::rms_norm_backward) rms_norm_backward;
decltype(ops::gated_rms_norm_forward) gated_rms_norm_forward;
decltype(ops::gated_rms_norm_backward) gated_rms_norm_backward;
decltype(ops::gated_rms_norm_linear_backward) gated_rms_norm_linear_backward;
decltype(ops::rotary_table) rotary_table;
decltype(ops::rotary) rotary;
decltype(ops::norm_rotary_forward) norm_rotary_forward;
decltype(ops::attention_forward) attention_forward;
decltype(ops::attention_backward) attention_backward;
decltype(ops::attention_cached) attention_cached;
decltype(ops::short_convolution_forward) short_convolution_forward;
decltype(ops::short_convolution_backward) short_convolution_backward;
decltype(ops::delta_gates_forward) delta_gates_forward;
decltype(ops::delta_gates_backward) delta_gates_backward;
decltype(ops::gated_delta_forward) gated_delta_forward;
decltype(ops::gated_delta_backward) gated_delta_backward;
decltype(ops::delta_mixer_step) delta_mixer_step;
decltype(ops::swiglu_forward) swiglu_forward;
decltype(ops::swiglu_backward) swiglu_backward;
decltype(ops::swiglu_linear) swiglu_linear;
decltype(ops::swiglu_linear_backward) swiglu_linear_backward;
decltype(ops::cross_entropy) cross_entropy;
decltype(ops::sampling) sampling;
decltype(ops::add) add;
decltype(ops::fill) fill;
decltype(ops::copy) copy;
decltype(ops::gradient_norm) gradient_norm;
decltype(ops::tally_step) tally_step;
decltype(ops::adamw) adamw;

namespace scratch {
decltype(ops::matmul) matmul;
decltype(ops::linear_group) linear_group;
decltype(ops::embedding_backward) embedding_backward;
decltype(ops::rms_norm_backward) rms_norm_backward;
decltype(ops::gated_rms_norm_backward) gated_rms_norm_backward;
decltype(ops::gated_rms_norm_linear_backward) gated_rms_norm_linear_backward;
decltype(ops::attention_forward) attention_forward;
decltype(ops::attention_backward) attention_backward;
decltype(ops::attention_cached) attention_cached;
decltype(ops::short_convolution_backward) short_convolution_backward;
decltype(ops::delta_gates_backward) delta_gates_backward;
decltype(ops::gated_delta_forward) gated_delta_forward;
decltype(ops::gated_delta_backward) gated_delta_backward;
decltype(ops::delta_mixer_step) delta_mixer_step;
decltype(ops::swiglu_linear) swiglu_linear;
decltype(ops::swiglu_linear_backward) swiglu_linear_backward;
decltype(ops::sampling) sampling;
decltype(ops::gradient_norm) gradient_norm;
decltype(ops::tally_step) tally_step;
}  // namespace scratch

}  // namespace braid::cuda

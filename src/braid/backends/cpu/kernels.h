// The CPU backend's ops, one file per op. scratch:: holds, for ops that use scratch memory, a function of
// the same signature that only makes the same arena tensors; op and scratch function share one
// make_x_scratch(ctx, shapes...).
#pragma once
#include "braid/ops/op_table.h"

namespace braid::cpu {

decltype(ops::matmul) matmul;
decltype(ops::linear_group) linear_group;
decltype(ops::embedding_forward) embedding_forward;
decltype(ops::embedding_backward) embedding_backward;
decltype(ops::rms_norm_forward) rms_norm_forward;
decltype(ops::rms_norm_backward) rms_norm_backward;
decltype(ops::gated_rms_norm_forward) gated_rms_norm_forward;
decltype(ops::gated_rms_norm_backward) gated_rms_norm_backward;
decltype(ops::rotary_table) rotary_table;
decltype(ops::rotary) rotary;
decltype(ops::attention_forward) attention_forward;
decltype(ops::attention_backward) attention_backward;
decltype(ops::attention_cached) attention_cached;
decltype(ops::short_convolution_forward) short_convolution_forward;
decltype(ops::short_convolution_backward) short_convolution_backward;
decltype(ops::delta_gates_forward) delta_gates_forward;
decltype(ops::delta_gates_backward) delta_gates_backward;
decltype(ops::gated_delta_forward) gated_delta_forward;
decltype(ops::gated_delta_backward) gated_delta_backward;
decltype(ops::swiglu_forward) swiglu_forward;
decltype(ops::swiglu_backward) swiglu_backward;
decltype(ops::cross_entropy) cross_entropy;
decltype(ops::add) add;
decltype(ops::fill) fill;
decltype(ops::copy) copy;
decltype(ops::gradient_norm) gradient_norm;
decltype(ops::adamw) adamw;

namespace scratch {
decltype(ops::matmul) matmul;
decltype(ops::linear_group) linear_group;
decltype(ops::rms_norm_backward) rms_norm_backward;
decltype(ops::gated_rms_norm_backward) gated_rms_norm_backward;
decltype(ops::attention_forward) attention_forward;
decltype(ops::attention_backward) attention_backward;
decltype(ops::attention_cached) attention_cached;
decltype(ops::short_convolution_forward) short_convolution_forward;
decltype(ops::short_convolution_backward) short_convolution_backward;
decltype(ops::delta_gates_backward) delta_gates_backward;
decltype(ops::gated_delta_forward) gated_delta_forward;
decltype(ops::gated_delta_backward) gated_delta_backward;
decltype(ops::gradient_norm) gradient_norm;
}  // namespace scratch

}  // namespace braid::cpu

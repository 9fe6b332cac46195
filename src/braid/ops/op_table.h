// The one list of ops a backend may implement. Entries have exactly the public signatures.
#pragma once
#include "braid/ops/attention.h"
#include "braid/ops/cross_entropy.h"
#include "braid/ops/delta_gates.h"
#include "braid/ops/delta_mixer.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/embedding.h"
#include "braid/ops/gated_delta.h"
#include "braid/ops/matmul.h"
#include "braid/ops/norm_rotary.h"
#include "braid/ops/optimizer.h"
#include "braid/ops/rms_norm.h"
#include "braid/ops/rotary.h"
#include "braid/ops/sampling.h"
#include "braid/ops/short_convolution.h"
#include "braid/ops/swiglu.h"
#include "braid/ops/tally_step.h"

namespace braid {

struct OpTable {
  decltype(ops::matmul)* matmul = nullptr;
  decltype(ops::linear_group)* linear_group = nullptr;
  decltype(ops::embedding_forward)* embedding_forward = nullptr;
  decltype(ops::embedding_backward)* embedding_backward = nullptr;
  decltype(ops::rms_norm_forward)* rms_norm_forward = nullptr;
  decltype(ops::rms_norm_backward)* rms_norm_backward = nullptr;
  decltype(ops::gated_rms_norm_forward)* gated_rms_norm_forward = nullptr;
  decltype(ops::gated_rms_norm_backward)* gated_rms_norm_backward = nullptr;
  decltype(ops::gated_rms_norm_linear_backward)* gated_rms_norm_linear_backward = nullptr;
  decltype(ops::rotary_table)* rotary_table = nullptr;
  decltype(ops::rotary)* rotary = nullptr;
  decltype(ops::norm_rotary_forward)* norm_rotary_forward = nullptr;
  decltype(ops::attention_forward)* attention_forward = nullptr;
  decltype(ops::attention_backward)* attention_backward = nullptr;
  decltype(ops::attention_cached)* attention_cached = nullptr;
  decltype(ops::short_convolution_forward)* short_convolution_forward = nullptr;
  decltype(ops::short_convolution_backward)* short_convolution_backward = nullptr;
  decltype(ops::delta_gates_forward)* delta_gates_forward = nullptr;
  decltype(ops::delta_gates_backward)* delta_gates_backward = nullptr;
  decltype(ops::gated_delta_forward)* gated_delta_forward = nullptr;
  decltype(ops::gated_delta_backward)* gated_delta_backward = nullptr;
  decltype(ops::delta_mixer_step)* delta_mixer_step = nullptr;
  decltype(ops::swiglu_forward)* swiglu_forward = nullptr;
  decltype(ops::swiglu_backward)* swiglu_backward = nullptr;
  decltype(ops::swiglu_linear)* swiglu_linear = nullptr;
  decltype(ops::swiglu_linear_backward)* swiglu_linear_backward = nullptr;
  decltype(ops::cross_entropy)* cross_entropy = nullptr;
  decltype(ops::sampling)* sampling = nullptr;
  decltype(ops::add)* add = nullptr;
  decltype(ops::fill)* fill = nullptr;
  decltype(ops::copy)* copy = nullptr;
  decltype(ops::gradient_norm)* gradient_norm = nullptr;
  decltype(ops::tally_step)* tally_step = nullptr;
  decltype(ops::adamw)* adamw = nullptr;
};

// The backend's function for an op, or an error that names the op.
template <auto Entry>
auto* implementation(const Context& ctx, const char* op = __builtin_FUNCTION()) {
  require(ctx.ops != nullptr && ctx.ops->*Entry != nullptr, "{}: not implemented on this backend", op);
  return ctx.ops->*Entry;
}

}  // namespace braid

#include <algorithm>

#include "braid/backends/cpu/gated_delta_scratch.h"
#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/parallel.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/gated_delta_forward.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/gated_delta_recurrent-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {
namespace delta {

// Shorter segments, and heads whose state fits the L1 cache (Dk Dv floats), take the recurrence: in f32 it
// needs about as many multiplications. The choice may depend on nothing but the segment's own length and the
// widths: a row's bits must not change with its neighbours.
constexpr std::int64_t kChunkedFrom = 64;
constexpr std::int64_t kRecurrentState = 64 * 128;

// Tokens per chunk here; divides kDeltaChunk. Measured 10 to 25 % faster than 64, which multiplies more.
constexpr std::int64_t kChunk = 32;

// One head of one segment; pointers are at its first token. Null: not given, not wanted.
struct ForwardTask {
  HeadInputs in;
  std::int64_t tokens;
  float *y, *checkpoint;  // of the first chunk
  std::int64_t checkpoint_stride;
  const float* initial;
  float* final;
};

// From Δ = (I + diag(β) stril(K̂K̂ᵀ∘Γ))⁻¹ diag(β) (V − diag(γ) K̂ S), by substitution:
// y = scale (diag(γ) Q̂ S + tril(Q̂K̂ᵀ∘Γ) Δ), S ← γ_C S + (diag(ρ) K̂)ᵀ Δ.
void forward_chunk(ForwardScratch& s, const HeadInputs& in, std::int64_t tokens, std::int64_t next_tokens) {
  ChunkScratch& c = s.chunk;
  ChunkGates g{};
  load_gates(g, in, tokens);
  load_keys(c, g, in, tokens);
  for_decays(g, tokens, [&](std::int64_t i, std::int64_t j, VecF decay, auto before, auto upto) HWY_ATTR {
    float *kk = c.key_key.row(i) + j, *qk = c.query_key.row(i) + j;
    const VecF m = hn::Mul(hn::Mul(decay, set(g.beta[i])), hn::Load(Floats(), kk));
    const VecF p = hn::Mul(hn::Mul(decay, set(in.scale)), hn::Load(Floats(), qk));
    hn::Store(hn::IfThenElseZero(before, m), Floats(), kk);
    hn::Store(hn::IfThenElseZero(upto, p), Floats(), qk);
  });
  const std::int64_t rows = padded(tokens), dk = padded(in.dk), dv = padded(in.dv);
  for (std::int64_t i = 0; i < rows; ++i) {
    scale_padded(c.scratch_k.row(i), c.k.row(i), dk, -g.beta[i] * g.gamma[i]);
    scale_padded(c.scratch_q.row(i), c.q.row(i), dk, in.scale * g.gamma[i]);
    scale_padded(c.scratch_write.row(i), c.k.row(i), dk, g.rho[i]);
    if (i < tokens) scale_row(s.y.row(i), in.v + i * in.value_stride, in.dv, g.beta[i]);
  }
  clear_rows(s.y, tokens, rows, in.dv);
  const HeadInputs next = in.from_token(tokens);
  // Columns of S are independent: each panel runs through all products while it is in the L1 cache.
  for (std::int64_t j = 0, width = 0; j < dv; j += width) {
    width = panel_columns(dv - j);
    const std::int64_t begin = next_tokens * j / dv, end = next_tokens * (j + width) / dv;
    prefetch_rows(next.q, in.key_stride, begin, end, in.dk);
    prefetch_rows(next.k, in.key_stride, begin, end, in.dk);
    prefetch_rows(next.v, in.value_stride, begin, end, in.dv);
    const Matrix state = s.state.from_column(j), y = s.y.from_column(j), output = s.output.from_column(j);
    product({y, c.scratch_k, state, rows, width, in.dk, Order::rows, Form::dense, 1});
    product({output, c.scratch_q, state, rows, width, in.dk});
    substitute({y, c.key_key, rows, width});
    product({output, c.query_key, y, rows, width, tokens, Order::rows, Form::left_lower, 1});
    product({state, c.scratch_write, y, dk, width, tokens, Order::columns, Form::dense, g.total});
  }
}

void chunked_segment(const ForwardTask& task, float* scratch) {
  const HeadInputs& in = task.in;
  Carver carve(scratch);
  ForwardScratch s(carve, in.dk, in.dv);
  load_matrix(s.state, task.initial, in.dv, in.dk, in.dv);
  for (std::int64_t t = 0; t < task.tokens; t += kChunk) {
    if (task.checkpoint != nullptr && t % ops::kDeltaChunk == 0) {
      stream_matrix(task.checkpoint + t / ops::kDeltaChunk * task.checkpoint_stride, in.dv, s.state, in.dk,
                    in.dv);
    }
    const std::int64_t tokens = std::min(kChunk, task.tokens - t);
    const std::int64_t next_tokens = std::min(kChunk, task.tokens - t - tokens);
    forward_chunk(s, in.from_token(t), tokens, next_tokens);
    store_matrix(task.y + t * in.value_stride, in.value_stride, s.output, tokens, in.dv);
  }
  if (task.final != nullptr) store_matrix(task.final, in.dv, s.state, in.dk, in.dv);
}

// `state` (rows ld apart) starts as the initial state unless `before` says where that is.
void recurrent_tokens_of(const ForwardTask& task, ForwardScratch& s, const float* before, float* state,
                         std::int64_t ld) {
  const HeadInputs& in = task.in;
  for (std::int64_t t = 0; t < task.tokens; t += kChunk, before = state) {
    if (task.checkpoint != nullptr && t % ops::kDeltaChunk == 0) {
      float* to = task.checkpoint + t / ops::kDeltaChunk * task.checkpoint_stride;
      for (std::int64_t i = 0; i < in.dk; ++i) std::copy_n(before + i * ld, in.dv, to + i * in.dv);
    }
    RecurrentTokens r{.in = in.from_token(t),
                      .tokens = std::min(kChunk, task.tokens - t),
                      .before = before,
                      .after = state,
                      .y = task.y + t * in.value_stride,
                      .ld = ld,
                      .k = s.chunk.k,
                      .q = s.chunk.q};
    recurrent_tokens(r);
  }
}

// A few tokens work on the states in memory, which are read and written once. More of them work on a copy
// whose rows do not compete for the same sets of the L1 cache.
constexpr std::int64_t kCopyStateFrom = 4;

void recurrent_segment(const ForwardTask& task, float* scratch) {
  const HeadInputs& in = task.in;
  const std::int64_t size = in.dk * in.dv;
  Carver carve(scratch);
  ForwardScratch s(carve, in.dk, in.dv);
  if (task.tokens < kCopyStateFrom && task.final != nullptr) {
    if (task.initial == nullptr) std::fill_n(task.final, size, 0.0f);
    const float* before = task.initial != nullptr ? task.initial : task.final;
    if (task.tokens == 0 && before != task.final) std::copy_n(before, size, task.final);
    return recurrent_tokens_of(task, s, before, task.final, in.dv);
  }
  load_matrix(s.state, task.initial, in.dv, in.dk, in.dv);
  recurrent_tokens_of(task, s, s.state.data, s.state.data, s.state.ld);
  if (task.final != nullptr) store_matrix(task.final, in.dv, s.state, in.dk, in.dv);
}

void forward_segment(const ForwardTask& task, ops::DeltaMethod method, float* scratch) {
  const bool small = task.tokens < kChunkedFrom || task.in.dk * task.in.dv <= kRecurrentState;
  const bool recurrent =
      method == ops::DeltaMethod::recurrent || (method == ops::DeltaMethod::automatic && small);
  (recurrent ? recurrent_segment : chunked_segment)(task, scratch);
}

}  // namespace delta

void gated_delta_forward(Context& ctx, Tensor y, Tensor checkpoints, ops::GatedDeltaStates states,
                         ops::GatedDeltaInputs in, ops::Segments segments, ops::GatedDeltaOptions options) {
  const Arena::Scope scope(*ctx.scratch);
  const Tensor scratch = make_delta_scratch<ForwardScratch>(ctx, in);
  const std::int64_t heads = in.v.shape[1], dv = in.v.shape[2], size = in.k.shape[2] * dv;
  const auto* offsets = segments.offsets.as<std::int32_t>();
  float *out = y.as<float>(), *work = scratch.as<float>();
  float* saved = checkpoints.defined() ? checkpoints.as<float>() : nullptr;
  const float* initial = states.initial.defined() ? states.initial.as<float>() : nullptr;
  float* final = states.final.defined() ? states.final.as<float>() : nullptr;
  const auto run = [&](std::int64_t task, int thread) HWY_ATTR {
    const std::int64_t segment = task / heads, head = task % heads, begin = offsets[segment];
    const delta::ForwardTask t{
        .in = HeadInputs(in, options, head).from_token(begin),
        .tokens = offsets[segment + 1] - begin,
        .y = out + (begin * heads + head) * dv,
        .checkpoint = saved ? saved + (ops::delta_chunk_slot(segment, begin) * heads + head) * size : nullptr,
        .checkpoint_stride = heads * size,
        .initial = initial ? initial + task * size : nullptr,
        .final = final ? final + task * size : nullptr};
    delta::forward_segment(t, options.method, work + thread * scratch.shape[1]);
  };
  parallel_for(ctx, segments.count() * heads, run, Schedule::next_free);
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {

HWY_EXPORT(gated_delta_forward);
void gated_delta_forward(Context& ctx, Tensor y, Tensor checkpoints, ops::GatedDeltaStates states,
                         ops::GatedDeltaInputs in, ops::Segments segments, ops::GatedDeltaOptions options) {
  require_f32("gated_delta_forward", {in.q});
  HWY_DYNAMIC_DISPATCH(gated_delta_forward)(ctx, y, checkpoints, states, in, segments, options);
}

void scratch::gated_delta_forward(Context& ctx, Tensor, Tensor, ops::GatedDeltaStates,
                                  ops::GatedDeltaInputs in, ops::Segments, ops::GatedDeltaOptions) {
  const Arena::Scope scope(*ctx.scratch);
  make_delta_scratch<ForwardScratch>(ctx, in);
}

}  // namespace braid::cpu
#endif

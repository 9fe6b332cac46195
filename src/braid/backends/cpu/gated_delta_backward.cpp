#include <algorithm>

#include "braid/backends/cpu/gated_delta_scratch.h"
#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/parallel.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/gated_delta_backward.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/gated_delta_chunk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {
namespace delta {

// One value head of one segment; pointers are at its first token. Null: zero, or not wanted.
struct BackwardTask {
  HeadInputs in;
  std::int64_t tokens;
  const float *dy, *checkpoint;  // of the first chunk
  std::int64_t checkpoint_stride;
  float *dq, *dk, *dv, *dlog_decay, *dbeta;
  bool add;  // to dq, dk: another value head of the same key head has been here
  const float* dfinal;
  float* dinitial;

  BackwardTask from_token(std::int64_t t) const {
    BackwardTask b = *this;
    b.in = in.from_token(t);
    b.dy += t * in.value_stride;
    b.dq += t * in.key_stride;
    b.dk += t * in.key_stride;
    b.dv += t * in.value_stride;
    b.dlog_decay += t * in.gate_stride;
    b.dbeta += t * in.gate_stride;
    b.checkpoint += t / ops::kDeltaChunk * checkpoint_stride;
    return b;
  }
};

// A chunk in hand. Chunks are kDeltaChunk long: shorter ones would have to find the states between them anew,
// which costs as much as they save.
struct BackwardChunk {
  const BackwardTask& task;
  BackwardScratch& s;
  std::int64_t tokens;
  bool prefetch;  // another chunk follows, the one before
  ChunkGates g{};
  HWY_ALIGN float query_part[ops::kDeltaChunk]{},
      key_part[ops::kDeltaChunk]{};  // ∂/∂G_i through γ_i (a + b), ρ_i (c)
  float state_part = 0;              // ∂/∂G_C through γ_C

  std::int64_t rows() const { return padded(tokens); }
  std::int64_t key_width() const { return padded(task.in.dk); }
  std::int64_t value_width() const { return padded(task.in.dv); }
};

// Γ, Γ-weighted products, the matrices of both substitutions, and rows of K̂, Q̂ scaled by −γ, γ, ρ.
void prepare(BackwardChunk& c) {
  BackwardScratch& s = c.s;
  ChunkScratch& p = s.chunk;
  load_gates(c.g, c.task.in, c.tokens);
  load_keys(p, c.g, c.task.in, c.tokens);
  for_decays(c.g, c.tokens, [&](std::int64_t i, std::int64_t j, VecF decay, auto before, auto upto) HWY_ATTR {
    float *kk = p.key_key.row(i) + j, *qk = p.query_key.row(i) + j;
    const VecF keys = hn::IfThenElseZero(before, hn::Mul(decay, hn::Load(Floats(), kk)));
    hn::Store(decay, Floats(), s.decay.row(i) + j);
    hn::Store(keys, Floats(), kk);
    hn::Store(hn::IfThenElseZero(upto, hn::Mul(decay, hn::Load(Floats(), qk))), Floats(), qk);
    hn::Store(hn::Mul(keys, hn::Load(Floats(), c.g.beta + j)), Floats(), s.solve_forward.row(i) + j);
    hn::Store(hn::Mul(keys, set(c.g.beta[i])), Floats(), s.solve_backward.row(i) + j);
  });
  for (std::int64_t i = 0; i < c.rows(); ++i) {
    scale_padded(p.scratch_k.row(i), p.k.row(i), c.key_width(), -c.g.gamma[i]);
    scale_padded(p.scratch_q.row(i), p.q.row(i), c.key_width(), c.g.gamma[i]);
    scale_padded(p.scratch_write.row(i), p.k.row(i), c.key_width(), c.g.rho[i]);
  }
}

// Asks for the share [begin, end) / of of what the chunk before this one reads and writes.
void prefetch_previous(const BackwardChunk& c, std::int64_t begin, std::int64_t end, std::int64_t of) {
  if (!c.prefetch) return;
  const BackwardTask p = c.task.from_token(-ops::kDeltaChunk);
  const HeadInputs& in = p.in;
  const std::int64_t from = ops::kDeltaChunk * begin / of, to = ops::kDeltaChunk * end / of;
  prefetch_rows(in.q, in.key_stride, from, to, in.dk);
  prefetch_rows(in.k, in.key_stride, from, to, in.dk);
  prefetch_rows(in.v, in.value_stride, from, to, in.dv);
  prefetch_rows(p.dy, in.value_stride, from, to, in.dv);
  prefetch_rows_to_write(p.dq, in.key_stride, from, to, in.dk);
  prefetch_rows_to_write(p.dk, in.key_stride, from, to, in.dk);
  prefetch_rows_to_write(p.dv, in.value_stride, from, to, in.dv);
  prefetch_rows(p.checkpoint, in.dv, in.dk * begin / of, in.dk * end / of, in.dv);
}

// E = (I + stril(K̂K̂ᵀ∘Γ) diag(β))⁻¹ (V − diag(γ) K̂ S), the prediction errors, and Δ = diag(β) E.
void solve_errors(const BackwardChunk& c) {
  const BackwardScratch& s = c.s;
  const HeadInputs& in = c.task.in;
  load_matrix(s.error, in.v, in.value_stride, c.tokens, in.dv);
  for (std::int64_t j = 0, width = 0; j < c.value_width(); j += width) {
    width = panel_columns(c.value_width() - j);
    const Matrix error = s.error.from_column(j);
    product({error, s.chunk.scratch_k, s.state.from_column(j), c.rows(), width, in.dk, Order::rows,
             Form::dense, 1});
    substitute({error, s.solve_forward, c.rows(), width});
  }
  for (std::int64_t i = 0; i < c.rows(); ++i) {
    scale_padded(s.delta.row(i), s.error.row(i), c.value_width(), c.g.beta[i]);
  }
}

// dΔ = tril(Q̂K̂ᵀ∘Γ)ᵀ dO + diag(ρ) K̂ dS⁺, dY = (I + stril(K̂K̂ᵀ∘Γ)ᵀ diag(β))⁻¹ dΔ, dW = diag(β) dY = dV.
void solve_gradients(const BackwardChunk& c) {
  const BackwardScratch& s = c.s;
  const HeadInputs& in = c.task.in;
  load_matrix(s.dy, c.task.dy, in.value_stride, c.tokens, in.dv, in.scale);
  for (std::int64_t j = 0, width = 0; j < c.value_width(); j += width) {
    width = panel_columns(c.value_width() - j);
    prefetch_previous(c, j, j + width, c.value_width());
    const Matrix ddelta = s.ddelta.from_column(j);
    product({ddelta, s.chunk.query_key, s.dy.from_column(j), c.rows(), width, c.tokens, Order::columns,
             Form::left_upper});
    product({ddelta, s.chunk.scratch_write, s.dstate.from_column(j), c.rows(), width, in.dk, Order::rows,
             Form::dense, 1});
    substitute({ddelta, s.solve_backward, c.rows(), width, Order::columns});
  }
  for (std::int64_t i = 0; i < c.rows(); ++i) {
    scale_padded(s.dw.row(i), s.ddelta.row(i), c.value_width(), c.g.beta[i]);
    if (i >= c.tokens) continue;
    c.task.dbeta[i * in.gate_stride] = dot(s.ddelta.row(i), s.error.row(i), c.value_width());
  }
  store_matrix(c.task.dv, in.value_stride, s.dw, c.tokens, in.dv);
}

// Rows of m (C, Dk) times factors_i; parts_i (+)= ⟨row of x, row of m⟩ afterwards.
void scale_and_dot(const BackwardChunk& c, Matrix m, const float* factors, Matrix x, float* parts) {
  for (std::int64_t i = 0; i < c.rows(); ++i) {
    scale_padded(m.row(i), m.row(i), c.key_width(), factors[i]);
    parts[i] += dot(x.row(i), m.row(i), c.key_width());
  }
}

// Everything that reaches q̂, k̂ and the decays through the states: dQ̂ = diag(γ) dO Sᵀ,
// dK̂ = −diag(γ) dW Sᵀ + diag(ρ) Δ dS⁺ᵀ.
void through_states(BackwardChunk& c) {
  const BackwardScratch& s = c.s;
  const std::int64_t rows = c.rows(), width = c.key_width(), dv = c.task.in.dv;
  transpose(s.state_transposed, s.state, width, c.value_width());
  transpose(s.dstate_transposed, s.dstate, width, c.value_width());
  product({s.dq, s.dy, s.state_transposed, rows, width, dv});
  product({s.dk, s.dw, s.state_transposed, rows, width, dv});
  product({s.part, s.delta, s.dstate_transposed, rows, width, dv});
  HWY_ALIGN float minus_gamma[ops::kDeltaChunk];
  for (std::int64_t i = 0; i < rows; ++i) {
    c.query_part[i] = c.key_part[i] = 0;
    minus_gamma[i] = -c.g.gamma[i];
  }
  scale_and_dot(c, s.dq, c.g.gamma, s.chunk.q, c.query_part);
  scale_and_dot(c, s.dk, minus_gamma, s.chunk.k, c.query_part);
  scale_and_dot(c, s.part, c.g.rho, s.chunk.k, c.key_part);
  VecF sum = zero();
  for (std::int64_t i = 0; i < c.task.in.dk; ++i) {
    sum = hn::Add(sum, dot_vector(s.state.row(i), s.dstate.row(i), c.value_width()));
  }
  c.state_part = c.g.total * sum_lanes(sum);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < width; j += lanes()) {
      float* dk = s.dk.row(i) + j;
      hn::Store(hn::Add(hn::Load(Floats(), dk), hn::Load(Floats(), s.part.row(i) + j)), Floats(), dk);
    }
  }
}

// P' = tril(dO Δᵀ)∘Γ, N' = stril(dW Δᵀ)∘Γ: dQ̂ += P' K̂, dK̂ += P'ᵀ Q̂ − (N' + N'ᵀ) K̂. Leaves in query_key the
// matrix Z = P'∘Q̂K̂ᵀ − N'∘K̂K̂ᵀ, whose entry (i, j) reaches the decays of tokens j < t ≤ i.
void within_chunk(BackwardChunk& c) {
  const BackwardScratch& s = c.s;
  const ChunkScratch& p = s.chunk;
  const std::int64_t rows = c.rows(), width = c.key_width(), dv = c.task.in.dv, tokens = c.tokens;
  transpose(s.delta_transposed, s.delta, rows, c.value_width());
  product({s.dquery_key, s.dy, s.delta_transposed, rows, rows, dv, Order::rows, Form::result_lower});
  product({s.dkey_key, s.dw, s.delta_transposed, rows, rows, dv, Order::rows, Form::result_lower});
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < padded(i + 1); j += lanes()) {
      const VecF column = hn::Iota(Floats(), static_cast<float>(j)), row = set(static_cast<float>(i));
      float *dqk = s.dquery_key.row(i) + j, *dkk = s.dkey_key.row(i) + j, *qk = p.query_key.row(i) + j;
      const VecF a = hn::IfThenElseZero(hn::Le(column, row), hn::Load(Floats(), dqk));
      const VecF b = hn::IfThenElseZero(hn::Lt(column, row), hn::Load(Floats(), dkk));
      const VecF decay = hn::Load(Floats(), s.decay.row(i) + j);
      const VecF z = hn::Mul(a, hn::Load(Floats(), qk));
      hn::Store(hn::NegMulAdd(b, hn::Load(Floats(), p.key_key.row(i) + j), z), Floats(), qk);
      hn::Store(hn::Mul(a, decay), Floats(), dqk);
      hn::Store(hn::Neg(hn::Mul(b, decay)), Floats(), dkk);
    }
  }
  product({s.dq, s.dquery_key, p.k, rows, width, tokens, Order::rows, Form::left_lower, 1});
  product({s.dk, s.dkey_key, p.k, rows, width, tokens, Order::rows, Form::left_lower, 1});
  product({s.dk, s.dkey_key, p.k, rows, width, tokens, Order::columns, Form::left_upper, 1});
  product({s.dk, s.dquery_key, p.q, rows, width, tokens, Order::columns, Form::left_upper, 1});
}

// ∂/∂g_t = Σ_{j<t≤i} Z_ij + Σ_{i≥t} (a_i + b_i) + Σ_{j<t} c_j + γ_C ⟨S, dS⁺⟩: sums of what depends on g_t,
// not differences of running totals.
void decay_gradients(const BackwardChunk& c) {
  HWY_ALIGN float below[ops::kDeltaChunk] = {};  // Σ_{i≥t} Z_ij
  HWY_ALIGN float writes[ops::kDeltaChunk];      // Σ_{j<t} c_j
  float sum = 0, reads = 0;
  for (std::int64_t t = 0; t < c.tokens; ++t) {
    writes[t] = sum;
    sum += c.key_part[t];
  }
  for (std::int64_t t = c.tokens; t-- > 0;) {
    VecF pairs = zero();
    for (std::int64_t j = 0; j < padded(t + 1); j += lanes()) {
      const VecF z =
          hn::Add(hn::Load(Floats(), below + j), hn::Load(Floats(), c.s.chunk.query_key.row(t) + j));
      hn::Store(z, Floats(), below + j);
      const auto before = hn::Lt(hn::Iota(Floats(), static_cast<float>(j)), set(static_cast<float>(t)));
      pairs = hn::Add(pairs, hn::IfThenElseZero(before, z));
    }
    reads += c.query_part[t];
    c.task.dlog_decay[t * c.task.in.gate_stride] = sum_lanes(pairs) + reads + writes[t] + c.state_part;
  }
}

// Through x̂ = r x: dx = r (dx̂ − x̂ ⟨x̂, dx̂⟩). Changes dx̂.
void store_through_norm(float* to, const float* unit, float* dunit, std::int64_t n, float factor, bool add) {
  const float along = dot(unit, dunit, padded(n));
  for_vectors(n, [&](std::int64_t j, auto io) HWY_ATTR {
    const VecF x = hn::NegMulAdd(set(along), hn::Load(Floats(), unit + j), hn::Load(Floats(), dunit + j));
    const VecF old = add ? io.load(to + j) : zero();
    io.store(to + j, hn::MulAdd(set(factor), x, old));
  });
}

void backward_chunk(BackwardChunk& c) {
  const BackwardScratch& s = c.s;
  const BackwardTask& task = c.task;
  load_matrix(s.state, task.checkpoint, task.in.dv, task.in.dk, task.in.dv);
  prepare(c);
  solve_errors(c);
  solve_gradients(c);
  through_states(c);
  within_chunk(c);
  decay_gradients(c);
  for (std::int64_t i = 0; i < c.tokens; ++i) {
    const std::int64_t at = i * task.in.key_stride, n = task.in.dk;
    store_through_norm(task.dq + at, s.chunk.q.row(i), s.dq.row(i), n, c.g.query_factor[i], task.add);
    store_through_norm(task.dk + at, s.chunk.k.row(i), s.dk.row(i), n, c.g.key_factor[i], task.add);
  }
  // dS = γ_C dS⁺ + (diag(γ) Q̂)ᵀ dO − (diag(γ) K̂)ᵀ dW
  const std::int64_t rows = c.key_width(), width = c.value_width();
  product({s.dstate, s.chunk.scratch_q, s.dy, rows, width, c.tokens, Order::columns, Form::dense, c.g.total});
  product({s.dstate, s.chunk.scratch_k, s.dw, rows, width, c.tokens, Order::columns, Form::dense, 1});
}

void backward_segment(const BackwardTask& task, float* scratch) {
  const HeadInputs& in = task.in;
  Carver carve(scratch);
  BackwardScratch s(carve, in.dk, in.dv);
  load_matrix(s.dstate, task.dfinal, in.dv, in.dk, in.dv);
  const std::int64_t chunks = (task.tokens + ops::kDeltaChunk - 1) / ops::kDeltaChunk;
  for (std::int64_t n = chunks; n-- > 0;) {
    const std::int64_t t = n * ops::kDeltaChunk;
    const BackwardTask part = task.from_token(t);
    BackwardChunk chunk{
        .task = part, .s = s, .tokens = std::min(ops::kDeltaChunk, task.tokens - t), .prefetch = n > 0};
    backward_chunk(chunk);
  }
  if (task.dinitial != nullptr) store_matrix(task.dinitial, in.dv, s.dstate, in.dk, in.dv);
}

// What all tasks of a call share.
struct BackwardCall {
  ops::GatedDeltaGradients grads;
  ops::GatedDeltaStateGradients state_grads;
  ConstTensor dy, checkpoints;
  const ops::GatedDeltaInputs& in;
  const ops::GatedDeltaOptions& options;
  const std::int32_t* offsets;
};

BackwardTask make_task(const BackwardCall& call, std::int64_t segment, std::int64_t head) {
  const std::int64_t heads = call.in.v.shape[1], key_heads = call.in.k.shape[1], group = heads / key_heads;
  const std::int64_t dk = call.in.k.shape[2], dv = call.in.v.shape[2], size = dk * dv;
  const std::int64_t begin = call.offsets[segment], row = begin * heads + head;
  const std::int64_t key_row = begin * key_heads + head / group, state = (segment * heads + head) * size;
  const ConstTensor& final = call.state_grads.final;
  const Tensor& initial = call.state_grads.initial;
  return {.in = HeadInputs(call.in, call.options, head).from_token(begin),
          .tokens = call.offsets[segment + 1] - begin,
          .dy = call.dy.as<float>() + row * dv,
          .checkpoint =
              call.checkpoints.as<float>() + (ops::delta_chunk_slot(segment, begin) * heads + head) * size,
          .checkpoint_stride = heads * size,
          .dq = call.grads.q.as<float>() + key_row * dk,
          .dk = call.grads.k.as<float>() + key_row * dk,
          .dv = call.grads.v.as<float>() + row * dv,
          .dlog_decay = call.grads.log_decay.as<float>() + row,
          .dbeta = call.grads.beta.as<float>() + row,
          .add = head % group != 0,
          .dfinal = final.defined() ? final.as<float>() + state : nullptr,
          .dinitial = initial.defined() ? initial.as<float>() + state : nullptr};
}

}  // namespace delta

void gated_delta_backward(Context& ctx, ops::GatedDeltaGradients grads,
                          ops::GatedDeltaStateGradients state_grads, ConstTensor dy, ops::GatedDeltaInputs in,
                          ops::GatedDeltaSaved saved, ops::Segments segments,
                          ops::GatedDeltaOptions options) {
  const Arena::Scope scope(*ctx.scratch);
  const Tensor scratch = make_delta_scratch<BackwardScratch>(ctx, in);
  float* work = scratch.as<float>();
  const std::int64_t key_heads = in.k.shape[1], group = in.v.shape[1] / key_heads;
  const delta::BackwardCall call{
      grads, state_grads, dy, saved.checkpoints, in, options, segments.offsets.as<std::int32_t>()};
  // A task takes all value heads of a key head, in order: dq and dk are their sums.
  const auto run = [&](std::int64_t task, int thread) HWY_ATTR {
    for (std::int64_t i = 0; i < group; ++i) {
      const delta::BackwardTask t = delta::make_task(call, task / key_heads, task % key_heads * group + i);
      delta::backward_segment(t, work + thread * scratch.shape[1]);
    }
  };
  parallel_for(ctx, segments.count() * key_heads, run, Schedule::next_free);
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {

HWY_EXPORT(gated_delta_backward);
void gated_delta_backward(Context& ctx, ops::GatedDeltaGradients grads,
                          ops::GatedDeltaStateGradients state_grads, ConstTensor dy, ops::GatedDeltaInputs in,
                          ops::GatedDeltaSaved saved, ops::Segments segments,
                          ops::GatedDeltaOptions options) {
  require_f32("gated_delta_backward", {in.q});
  HWY_DYNAMIC_DISPATCH(gated_delta_backward)(ctx, grads, state_grads, dy, in, saved, segments, options);
}

void scratch::gated_delta_backward(Context& ctx, ops::GatedDeltaGradients, ops::GatedDeltaStateGradients,
                                   ConstTensor, ops::GatedDeltaInputs in, ops::GatedDeltaSaved, ops::Segments,
                                   ops::GatedDeltaOptions) {
  const Arena::Scope scope(*ctx.scratch);
  make_delta_scratch<BackwardScratch>(ctx, in);
}

}  // namespace braid::cpu
#endif

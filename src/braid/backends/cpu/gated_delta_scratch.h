// Sizes and scratch memory of the gated delta kernels. Every matrix in scratch has rows, row count and
// token count padded with zeros to kPad, so that the kernels never meet a partial vector or tile.
#pragma once
#include <cmath>

#include "braid/backends/cpu/state.h"
#include "braid/ops/gated_delta.h"

namespace braid::cpu {

inline constexpr std::int64_t kPad = 16;  // floats in the widest vector
constexpr std::int64_t padded(std::int64_t n) { return (n + kPad - 1) / kPad * kPad; }
// Distance between rows: an odd number of 64-byte lines, so that a column visits every set of the L1 cache.
constexpr std::int64_t leading(std::int64_t n) { return (padded(n) / kPad | 1) * kPad; }

struct Matrix {
  float* data = nullptr;
  std::int64_t ld = 0;
  float* row(std::int64_t i) const { return data + i * ld; }
  Matrix from_column(std::int64_t j) const { return {data + j, ld}; }
};

// Cuts matrices from one thread's piece; with a null base it only counts.
class Carver {
 public:
  explicit Carver(float* base) : base_(base) {}
  Matrix matrix(std::int64_t rows, std::int64_t columns) {
    const Matrix m{base_ != nullptr ? base_ + used_ : nullptr, leading(columns)};
    used_ += padded(rows) * m.ld;
    return m;
  }
  std::int64_t used() const { return used_; }

 private:
  float* base_;
  std::int64_t used_ = 0;
};

// What both directions derive from q, k and the gates of a chunk (C tokens). K̂, Q̂ have unit rows.
struct ChunkScratch {
  Matrix k, q;           // K̂, Q̂ (C, Dk)
  Matrix k_transposed;   // K̂ᵀ (Dk, C)
  Matrix key_key;        // K̂K̂ᵀ, then ∘Γ below the diagonal (C, C)
  Matrix query_key;      // Q̂K̂ᵀ, then ∘Γ up to the diagonal (C, C)
  Matrix scratch_k;      // K̂ with rows scaled (C, Dk)
  Matrix scratch_q;      // Q̂ with rows scaled
  Matrix scratch_write;  // diag(ρ) K̂
  ChunkScratch(Carver& carve, std::int64_t dk)
      : k(carve.matrix(ops::kDeltaChunk, dk)),
        q(carve.matrix(ops::kDeltaChunk, dk)),
        k_transposed(carve.matrix(dk, ops::kDeltaChunk)),
        key_key(carve.matrix(ops::kDeltaChunk, ops::kDeltaChunk)),
        query_key(carve.matrix(ops::kDeltaChunk, ops::kDeltaChunk)),
        scratch_k(carve.matrix(ops::kDeltaChunk, dk)),
        scratch_q(carve.matrix(ops::kDeltaChunk, dk)),
        scratch_write(carve.matrix(ops::kDeltaChunk, dk)) {}
};

struct ForwardScratch {
  ChunkScratch chunk;
  Matrix state;      // S (Dk, Dv)
  Matrix y, output;  // (C, Dv)
  ForwardScratch(Carver& carve, std::int64_t dk, std::int64_t dv)
      : chunk(carve, dk),
        state(carve.matrix(dk, dv)),
        y(carve.matrix(ops::kDeltaChunk, dv)),
        output(carve.matrix(ops::kDeltaChunk, dv)) {}
};

struct BackwardScratch {
  ChunkScratch chunk;
  Matrix decay;                          // Γ (C, C)
  Matrix solve_forward, solve_backward;  // (K̂K̂ᵀ∘Γ) diag(β), diag(β) (K̂K̂ᵀ∘Γ)
  Matrix dquery_key, dkey_key;           // P', −N' (C, C)
  Matrix state, dstate;                  // S before the chunk, dS after it (Dk, Dv)
  Matrix state_transposed, dstate_transposed;
  Matrix error, delta, dy, ddelta, dw;  // E, Δ = diag(β) E, s·dy, dΔ then dY, diag(β) dY (C, Dv)
  Matrix delta_transposed;              // (Dv, C)
  Matrix dq, dk, part;                  // (C, Dk)
  BackwardScratch(Carver& carve, std::int64_t key_width, std::int64_t dv);
};

inline BackwardScratch::BackwardScratch(Carver& carve, std::int64_t key_width, std::int64_t dv)
    : chunk(carve, key_width) {
  constexpr auto tokens = ops::kDeltaChunk;
  for (Matrix* m : {&decay, &solve_forward, &solve_backward, &dquery_key, &dkey_key}) {
    *m = carve.matrix(tokens, tokens);
  }
  state = carve.matrix(key_width, dv);
  dstate = carve.matrix(key_width, dv);
  state_transposed = carve.matrix(dv, key_width);
  dstate_transposed = carve.matrix(dv, key_width);
  for (Matrix* m : {&error, &delta, &dy, &ddelta, &dw}) *m = carve.matrix(tokens, dv);
  delta_transposed = carve.matrix(dv, tokens);
  for (Matrix* m : {&dq, &dk, &part}) *m = carve.matrix(tokens, key_width);
}

template <class Scratch>
std::int64_t scratch_floats(std::int64_t dk, std::int64_t dv) {
  Carver counter(nullptr);
  Scratch(counter, dk, dv);
  return counter.used();
}

// One piece per thread, each Scratch large.
template <class Scratch>
Tensor make_delta_scratch(Context& ctx, const ops::GatedDeltaInputs& in) {
  return ctx.scratch->make(DType::f32,
                           {state_of(ctx).threads, scratch_floats<Scratch>(in.k.shape[2], in.v.shape[2])});
}

// One head's tensors from some token on. Strides are in floats per token.
struct HeadInputs {
  const float *q, *k, *v, *log_decay, *beta;
  std::int64_t key_stride, value_stride, gate_stride, dk, dv;
  float scale;

  HeadInputs(const ops::GatedDeltaInputs& in, const ops::GatedDeltaOptions& options, std::int64_t head)
      : gate_stride(in.v.shape[1]), dk(in.k.shape[2]), dv(in.v.shape[2]) {
    const auto key_heads = in.k.shape[1], key_head = head / (gate_stride / key_heads);
    key_stride = key_heads * dk;
    value_stride = gate_stride * dv;
    q = in.q.as<float>() + key_head * dk;
    k = in.k.as<float>() + key_head * dk;
    v = in.v.as<float>() + head * dv;
    log_decay = in.log_decay.as<float>() + head;
    beta = in.beta.as<float>() + head;
    scale = static_cast<float>(options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(dk)));
  }
  HeadInputs from_token(std::int64_t t) const {
    HeadInputs h = *this;
    h.q += t * key_stride;
    h.k += t * key_stride;
    h.v += t * value_stride;
    h.log_decay += t * gate_stride;
    h.beta += t * gate_stride;
    return h;
  }
};

}  // namespace braid::cpu

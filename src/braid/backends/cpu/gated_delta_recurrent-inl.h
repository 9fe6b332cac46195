// The token recurrence. Each token reads and writes the state once: with p = Sᵀk̂ and r = Sᵀq̂ of the state
// before it, δ = β (v − α p), y = scale (α r + (k̂·q̂) δ), S ← α S + k̂ δᵀ; the update of one token is fused
// with the two products of the next, on a block of columns that stays in the L1 cache.
#if defined(BRAID_BACKENDS_CPU_GATED_DELTA_RECURRENT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_BACKENDS_CPU_GATED_DELTA_RECURRENT_INL_H
#undef BRAID_BACKENDS_CPU_GATED_DELTA_RECURRENT_INL_H
#else
#define BRAID_BACKENDS_CPU_GATED_DELTA_RECURRENT_INL_H
#endif

#include "braid/backends/cpu/gated_delta_chunk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE::delta {

// Three accumulators per vector of columns.
inline constexpr int kRecurrentVectors = HWY_ARCH_X86 && HWY_MAX_BYTES < 64 ? 3 : 4;

// Up to kDeltaChunk tokens of one head. The state (Dk, Dv), rows `ld` apart, is read from `before` and left
// in `after`, which may be the same memory.
struct RecurrentTokens {
  HeadInputs in;
  std::int64_t tokens;
  const float* before;
  float *after, *y;
  std::int64_t ld;
  Matrix k, q;                                                               // K̂, Q̂
  HWY_ALIGN float alpha[ops::kDeltaChunk]{}, key_query[ops::kDeltaChunk]{};  // α, k̂·q̂
};

// Columns [j, j + kVectors vectors).
template <int kVectors, class Access>
HWY_INLINE void recurrent_columns(const RecurrentTokens& s, std::int64_t j, Access io) {
  const std::int64_t step = lanes(), dk = s.in.dk, ld = s.ld;
  VecF p[kVectors], r[kVectors], delta[kVectors];
  for (int v = 0; v < kVectors; ++v) p[v] = r[v] = zero();
  for (std::int64_t i = 0; i < dk; ++i) {
    const VecF k = set(s.k.row(0)[i]), q = set(s.q.row(0)[i]);
    for (int v = 0; v < kVectors; ++v) {
      const VecF x = io.load(s.before + i * ld + j + v * step);
      p[v] = hn::MulAdd(x, k, p[v]);
      r[v] = hn::MulAdd(x, q, r[v]);
    }
  }
  const float* state = s.before + j;
  for (std::int64_t t = 0; t < s.tokens; ++t, state = s.after + j) {
    for (int v = 0; v < kVectors; ++v) {  // misses here would stall the whole token
      const std::int64_t ahead = std::min(t + 2, s.tokens - 1) * s.in.value_stride + j + v * step;
      __builtin_prefetch(s.in.v + ahead, 0);
      __builtin_prefetch(s.y + ahead, 1);
    }
    const VecF alpha = set(s.alpha[t]), beta = set(s.in.beta[t * s.in.gate_stride]);
    for (int v = 0; v < kVectors; ++v) {
      const VecF value = io.load(s.in.v + t * s.in.value_stride + j + v * step);
      delta[v] = hn::Mul(beta, hn::NegMulAdd(alpha, p[v], value));
      const VecF y = hn::MulAdd(set(s.key_query[t]), delta[v], hn::Mul(alpha, r[v]));
      io.store(s.y + t * s.in.value_stride + j + v * step, hn::Mul(set(s.in.scale), y));
      p[v] = r[v] = zero();
    }
    const float *k = s.k.row(t), *k_next = k + s.k.ld, *q_next = s.q.row(t + 1);
    float* after = s.after + j;
    if (t + 1 == s.tokens) {
      for (std::int64_t i = 0; i < dk; ++i) {
        for (int v = 0; v < kVectors; ++v) {
          const VecF x = hn::Mul(alpha, io.load(state + i * ld + v * step));
          io.store(after + i * ld + v * step, hn::MulAdd(set(k[i]), delta[v], x));
        }
      }
      return;
    }
    for (std::int64_t i = 0; i < dk; ++i) {
      const VecF ki = set(k[i]), kn = set(k_next[i]), qn = set(q_next[i]);
      for (int v = 0; v < kVectors; ++v) {
        const VecF x = hn::MulAdd(ki, delta[v], hn::Mul(alpha, io.load(state + i * ld + v * step)));
        io.store(after + i * ld + v * step, x);
        p[v] = hn::MulAdd(x, kn, p[v]);
        r[v] = hn::MulAdd(x, qn, r[v]);
      }
    }
  }
}

// s.tokens ≥ 1.
inline void recurrent_tokens(RecurrentTokens& s) {
  for (std::int64_t t = 0; t < s.tokens; ++t) {
    normalize_row(s.k.row(t), s.in.k + t * s.in.key_stride, s.in.dk);
    normalize_row(s.q.row(t), s.in.q + t * s.in.key_stride, s.in.dk);
    s.alpha[t] = hn::GetLane(decay_of(set(s.in.log_decay[t * s.in.gate_stride])));
    s.key_query[t] = dot(s.k.row(t), s.q.row(t), padded(s.in.dk));
  }
  const std::int64_t step = lanes(), dv = s.in.dv;
  std::int64_t j = 0;
  for (; j + kRecurrentVectors * step <= dv; j += kRecurrentVectors * step) {
    recurrent_columns<kRecurrentVectors>(s, j, Whole());
  }
  for (; j + 2 * step <= dv; j += 2 * step) recurrent_columns<2>(s, j, Whole());
  for (; j + step <= dv; j += step) recurrent_columns<1>(s, j, Whole());
  if (j < dv) recurrent_columns<1>(s, j, Part(dv - j));
}

}  // namespace braid::cpu::HWY_NAMESPACE::delta
HWY_AFTER_NAMESPACE();

#endif

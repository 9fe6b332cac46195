// The part of the chunk form that both directions share. Notation (Yang et al., arXiv 2412.06464, with the
// decay kept out of K̂): G_i = Σ_{t≤i} g_t inside the chunk, γ_i = e^{G_i}, ρ_i = e^{G_C − G_i},
// Γ_ij = e^{G_i − G_j} for i ≥ j. Sums of g are formed from their own first term, never as a difference, so
// exponents are ≤ 0 and exact to rounding after any decay.
#if defined(BRAID_BACKENDS_CPU_GATED_DELTA_CHUNK_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_BACKENDS_CPU_GATED_DELTA_CHUNK_INL_H
#undef BRAID_BACKENDS_CPU_GATED_DELTA_CHUNK_INL_H
#else
#define BRAID_BACKENDS_CPU_GATED_DELTA_CHUNK_INL_H
#endif

#include "braid/backends/cpu/gated_delta_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE::delta {

// e^x for x ≤ 0, and 0 below e^-69 = 1e-30: far below the rounding of anything it is added to, and its
// products stay clear of slow denormals.
HWY_INLINE VecF decay_of(VecF x) { return hn::IfThenElseZero(hn::Gt(x, set(-69.0f)), exp(x)); }

HWY_INLINE VecF dot_vector(const float* a, const float* b, std::int64_t n) {
  VecF sum = zero();
  for (std::int64_t j = 0; j < n; j += lanes()) {
    sum = hn::MulAdd(hn::Load(Floats(), a + j), hn::Load(Floats(), b + j), sum);
  }
  return sum;
}
// Of two rows in scratch, n a multiple of kPad.
HWY_INLINE float dot(const float* a, const float* b, std::int64_t n) {
  return sum_lanes(dot_vector(a, b, n));
}

// to = scale · from; to is padded with zeros, from has n floats.
HWY_INLINE void scale_row(float* to, const float* from, std::int64_t n, float scale) {
  for (std::int64_t j = padded(n) - kPad; j < padded(n); j += lanes()) hn::Store(zero(), Floats(), to + j);
  for_vectors(n, [&](std::int64_t j, auto io) HWY_ATTR {
    hn::Store(hn::Mul(set(scale), io.keep(io.load(from + j))), Floats(), to + j);
  });
}

// As scale_row, between rows in scratch.
HWY_INLINE void scale_padded(float* to, const float* from, std::int64_t n, float scale) {
  for (std::int64_t j = 0; j < n; j += lanes()) {
    hn::Store(hn::Mul(set(scale), hn::Load(Floats(), from + j)), Floats(), to + j);
  }
}

// to = from / sqrt(|from|² + ε), padded with zeros; returns the factor.
HWY_INLINE float normalize_row(float* to, const float* from, std::int64_t n) {
  scale_row(to, from, n, 1);
  const float r = 1 / std::sqrt(dot(to, to, padded(n)) + static_cast<float>(ops::kDeltaNormEpsilon));
  scale_padded(to, to, padded(n), r);
  return r;
}

inline void clear_rows(Matrix m, std::int64_t begin, std::int64_t end, std::int64_t columns) {
  for (std::int64_t i = begin; i < end; ++i) {
    for (std::int64_t j = 0; j < padded(columns); j += lanes()) hn::Store(zero(), Floats(), m.row(i) + j);
  }
}

// Copies between a scratch matrix and (rows, columns) in memory, `stride` floats apart. Undefined: zero.
inline void load_matrix(Matrix to, const float* from, std::int64_t stride, std::int64_t rows,
                        std::int64_t columns, float scale = 1) {
  for (std::int64_t i = 0; from != nullptr && i < rows; ++i) {
    scale_row(to.row(i), from + i * stride, columns, scale);
  }
  clear_rows(to, from != nullptr ? rows : 0, padded(rows), columns);
}
inline void store_matrix(float* to, std::int64_t stride, Matrix from, std::int64_t rows,
                         std::int64_t columns) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for_vectors(columns, [&](std::int64_t j, auto io) HWY_ATTR {
      io.store(to + i * stride + j, hn::Load(Floats(), from.row(i) + j));
    });
  }
}

// Asks for rows [begin, end) of a matrix in memory, `stride` floats apart, to be brought to the L2 cache.
inline void prefetch_rows(const float* from, std::int64_t stride, std::int64_t begin, std::int64_t end,
                          std::int64_t columns) {
  for (std::int64_t i = begin; i < end; ++i) {
    for (std::int64_t j = 0; j < columns; j += kPad) __builtin_prefetch(from + i * stride + j, 0, 2);
  }
}

// The same for rows that will be written.
inline void prefetch_rows_to_write(float* to, std::int64_t stride, std::int64_t begin, std::int64_t end,
                                   std::int64_t columns) {
  for (std::int64_t i = begin; i < end; ++i) {
    for (std::int64_t j = 0; j < columns; j += kPad) __builtin_prefetch(to + i * stride + j, 1, 2);
  }
}

// As store_matrix, past the caches where lines are whole: for what is read much later.
inline void stream_matrix(float* to, std::int64_t stride, Matrix from, std::int64_t rows,
                          std::int64_t columns) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(to) % (kPad * sizeof(float)) == 0;
  if (!aligned || stride % kPad != 0 || columns % kPad != 0) {
    return store_matrix(to, stride, from, rows, columns);
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; j += lanes()) {
      hn::Stream(hn::Load(Floats(), from.row(i) + j), Floats(), to + i * stride + j);
    }
  }
}

// Per-token scalars of a chunk; zero past its last token.
struct ChunkGates {
  HWY_ALIGN float beta[ops::kDeltaChunk], log_decay[ops::kDeltaChunk];
  HWY_ALIGN float gamma[ops::kDeltaChunk], rho[ops::kDeltaChunk];
  HWY_ALIGN float query_factor[ops::kDeltaChunk], key_factor[ops::kDeltaChunk];  // of the unit norm
  float total;                                                                   // γ_C
};

inline void load_gates(ChunkGates& g, const HeadInputs& in, std::int64_t tokens) {
  float before = 0, after = 0;
  for (std::int64_t i = 0; i < padded(tokens); ++i) {
    g.beta[i] = i < tokens ? in.beta[i * in.gate_stride] : 0;
    g.log_decay[i] = i < tokens ? in.log_decay[i * in.gate_stride] : 0;
    g.gamma[i] = before += g.log_decay[i];
  }
  for (std::int64_t i = padded(tokens); i-- > 0;) {
    g.rho[i] = after;
    after += g.log_decay[i];
  }
  for (std::int64_t i = 0; i < padded(tokens); i += lanes()) {
    hn::Store(decay_of(hn::Load(Floats(), g.gamma + i)), Floats(), g.gamma + i);
    hn::Store(decay_of(hn::Load(Floats(), g.rho + i)), Floats(), g.rho + i);
  }
  g.total = g.gamma[padded(tokens) - 1];
}

// K̂, Q̂, K̂ᵀ and the plain products K̂K̂ᵀ, Q̂K̂ᵀ (up to the diagonal tiles).
inline void load_keys(ChunkScratch& s, ChunkGates& g, const HeadInputs& in, std::int64_t tokens) {
  for (std::int64_t i = 0; i < tokens; ++i) {
    g.key_factor[i] = normalize_row(s.k.row(i), in.k + i * in.key_stride, in.dk);
    g.query_factor[i] = normalize_row(s.q.row(i), in.q + i * in.key_stride, in.dk);
  }
  clear_rows(s.k, tokens, padded(tokens), in.dk);
  clear_rows(s.q, tokens, padded(tokens), in.dk);
  const auto rows = padded(tokens);
  transpose(s.k_transposed, s.k, rows, padded(in.dk));
  product({s.key_key, s.k, s.k_transposed, rows, rows, in.dk, Order::rows, Form::result_lower});
  product({s.query_key, s.q, s.k_transposed, rows, rows, in.dk, Order::rows, Form::result_lower});
}

// Calls body(i, j, Γ, before, upto) for the vectors of row i that reach its diagonal tile; the masks say
// j < i and j ≤ i.
template <class Body>
HWY_INLINE void for_decays(const ChunkGates& g, std::int64_t tokens, Body&& body) {
  HWY_ALIGN float sums[ops::kDeltaChunk] = {};
  for (std::int64_t i = 0; i < padded(tokens); ++i) {
    for (std::int64_t j = 0; j < padded(i + 1); j += lanes()) {
      const VecF column = hn::Iota(Floats(), static_cast<float>(j)), row = set(static_cast<float>(i));
      const auto before = hn::Lt(column, row);
      const VecF sum = hn::IfThenElseZero(before, hn::Add(hn::Load(Floats(), sums + j), set(g.log_decay[i])));
      hn::Store(sum, Floats(), sums + j);
      body(i, j, decay_of(sum), before, hn::Le(column, row));
    }
  }
}

}  // namespace braid::cpu::HWY_NAMESPACE::delta
HWY_AFTER_NAMESPACE();

#endif

// What the kernels of the chunked form share on the host: the problem, the scratch tensors, one launcher per
// kernel.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "braid/backends/cuda/device/segments.cuh"
#include "braid/backends/cuda/gated_delta/chunked.h"

namespace braid::cuda::chunked {

using bf16 = __nv_bfloat16;

inline constexpr int kChunk = 64;
static_assert(kChunk == ops::kDeltaChunk);
inline constexpr int kSlice = 64;  // columns of the state that one block of a scan owns

// Per chunk and value head kScalars rows of 64 floats, one float per token. In rows past the end of the
// segment all are 0 but γ, ρ and G, which go on unchanged.
enum Scalar : int { kKeyGain, kQueryGain, kBeta, kGamma, kRho, kQueryNorm, kKeyNorm, kSum, kScalars };
// γ r_k, γ r_q, β, γ, ρ, r_q, r_k, G with r_k = 1 / |k|: the first four are all that the scans read.
inline constexpr int kScanScalars = 4;

struct Problem {
  DeviceSegments segments;
  std::int64_t tokens;
  std::int64_t slots;  // of chunks, at least as many as there are chunks
  int key_heads, value_heads, key_width, value_width;
  float scale;

  int group() const { return value_heads / key_heads; }
};

// Scratch of every (slot, value head): `padded` is the key width as the kernels see it.
struct Chunks {
  float* scalars;     // (kScalars, 64)
  void* response;     // R (64, 64), f16 in forward, bf16 in backward
  void* written;      // X (64, padded), likewise
  __half* predicted;  // M (64, 64), backward only
};

// Key widths that kernels exist for; others are padded with zeros.
constexpr int padded_width(std::int64_t width) {
  for (const int padded : {32, 64, 96, 128, 192}) {
    if (width <= padded) return padded;
  }
  return 256;
}
template <class F>
void visit_padded_width(std::int64_t width, F&& f) {
  switch (padded_width(width)) {
    case 32:
      return f.template operator()<32>();
    case 64:
      return f.template operator()<64>();
    case 96:
      return f.template operator()<96>();
    case 128:
      return f.template operator()<128>();
    case 192:
      return f.template operator()<192>();
    default:
      return f.template operator()<256>();
  }
}

struct Inputs {
  const bf16 *q, *k, *v;
  const float *log_decay, *beta;
};
// Fills `chunks`; `predicted` null: for forward.
void prepare(Context&, const Problem&, const Inputs&, const Chunks&);

struct ForwardStates {
  const float* initial;  // null: zero
  float* final;          // null: not wanted
  bf16* checkpoints;     // null: not wanted
};
void scan_forward(Context&, const Problem&, const Inputs&, const Chunks&, bf16* y, const ForwardStates&,
                  unsigned long long* saturated);

struct BackwardStates {
  const float* dfinal;  // null: zero
  float* dinitial;      // null: not wanted
  bf16* dstates;        // (slots, Hv, Dk, Dv): gradients of the states after each chunk
};
// Leaves in dv, for tokens of (nearly) zero β, the gradient of the written value instead of β times it: see
// is_tiny() in chunk.cuh. gradient() makes it right.
void scan_backward(Context&, const Problem&, const Inputs&, const Chunks&, const bf16* dy, bf16* dv,
                   const BackwardStates&);

struct GradientInputs {
  const bf16 *dy, *states, *dstates;
};
// dq, dk: bf16 (N, Hk, Dk), or with several value heads to a key head partial sums, f32 (N, Hv, Dk).
struct Gradients {
  void *dq, *dk;
  bf16* dv;
  float *dlog_decay, *dbeta;
};
void gradient(Context&, const Problem&, const Inputs&, const Chunks&, const GradientInputs&,
              const Gradients&);

// sum (rows, width) of parts (rows, group, width), in order.
void sum_groups(Context&, bf16* sum, const float* parts, std::int64_t rows, int group, int width);

}  // namespace braid::cuda::chunked

// How weights stream past a few rows: several products of the same rows in one launch, how weights are read,
// and where an element's sum goes.
#pragma once
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/math.cuh"
#include "braid/backends/cuda/launch.h"
#include "braid/backends/cuda/matmul/problem.h"

namespace braid::cuda::streamed {

// One product: c (rows, columns) = before + a · bᵀ, both c and before f32 or bf16.
struct Part {
  void* c;
  const void* before;  // null: nothing is added
  const bf16* b;
  std::int64_t columns;
  std::int32_t first_block;
  bool precise;  // f32

  __device__ __forceinline__ float load_before(std::int64_t at) const {
    return precise ? static_cast<const float*>(before)[at] : to_float(static_cast<const bf16*>(before)[at]);
  }
  __device__ __forceinline__ void store(std::int64_t at, float x) const {
    if (precise) {
      static_cast<float*>(c)[at] = x;
    } else {
      static_cast<bf16*>(c)[at] = from_float<bf16>(x);
    }
  }
  __device__ __forceinline__ void finish(std::int64_t at, float sum) const {
    store(at, before != nullptr ? sum + load_before(at) : sum);
  }
  // As the product and swiglu_forward one after the other; c is bf16.
  __device__ __forceinline__ void finish_gated(std::int64_t at, float gate, float up) const {
    const auto rounded = [](float x) { return to_float(from_float<bf16>(x)); };
    static_cast<bf16*>(c)[at] = from_float<bf16>(silu(rounded(gate)) * rounded(up));
  }
};

struct Parts {
  Part parts[ops::kMostLinearParts];
  std::int32_t count;

  __device__ __forceinline__ int index_of_block(std::int32_t block) const {
    int i = 0;
    while (i + 1 < count && block >= parts[i + 1].first_block) ++i;
    return i;
  }
  __device__ __forceinline__ const Part& of_block(std::int32_t block) const {
    return parts[index_of_block(block)];
  }
};

// The parts, with one block for every `outputs` columns of each; `blocks` becomes their number.
inline Parts make_parts(std::span<const MatmulOperands> operands, std::int64_t outputs,
                        std::int64_t& blocks) {
  Parts all{.parts = {}, .count = static_cast<std::int32_t>(operands.size())};
  blocks = 0;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const auto& o = operands[i];
    all.parts[i] = {.c = o.c.mutable_data(),
                    .before = o.before.data,
                    .b = pointer<bf16>(o.b),
                    .columns = o.c.shape[1],
                    .first_block = static_cast<std::int32_t>(blocks),
                    .precise = o.c.dtype == DType::f32};
    blocks += ceil_div(o.c.shape[1], outputs);
  }
  return all;
}

// Weights are read once: they pass by L1, which keeps `a`.
__device__ __forceinline__ uint4 load_streaming(const bf16* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

}  // namespace braid::cuda::streamed

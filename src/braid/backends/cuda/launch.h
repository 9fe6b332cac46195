// Host-side helpers of the launchers: element types and grid sizes.
#pragma once
#include <cuda_bf16.h>

#include <algorithm>
#include <initializer_list>

#include "braid/backends/cuda/state.h"
#include "braid/ops/segments.h"

namespace braid::cuda {

using bf16 = __nv_bfloat16;

// Typed pointers; the host's BFloat16 and the device's bf16 are the same two bytes. Null when undefined.
template <class T>
const T* pointer(const ConstTensor& t) {
  return static_cast<const T*>(t.data);
}
template <class T>
T* pointer(const Tensor& t) {
  return static_cast<T*>(t.mutable_data());
}

// Calls f.template operator()<float or bf16>().
template <class F>
decltype(auto) visit_activation(const char* op, DType t, F&& f) {
  if (t == DType::f32) return f.template operator()<float>();
  if (t == DType::bf16) return f.template operator()<bf16>();
  fail("{}: dtype {} is not supported on cuda: expected f32 or bf16", op, name_of(t));
}

// Whether all begin on 16 bytes: a view may begin anywhere. Undefined tensors do.
inline bool on_16_bytes(std::initializer_list<ConstTensor> tensors) {
  return std::ranges::all_of(
      tensors, [](const ConstTensor& t) { return reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0; });
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Blocks for `items`, at most `per_multiprocessor` on each multiprocessor: kernels stride over the rest.
inline unsigned grid_for(const Context& ctx, std::int64_t items, std::int64_t per_block,
                         std::int64_t per_multiprocessor = 8) {
  const auto most = per_multiprocessor * state_of(ctx).multiprocessors;
  return static_cast<unsigned>(std::clamp<std::int64_t>(ceil_div(items, per_block), 1, most));
}

}  // namespace braid::cuda

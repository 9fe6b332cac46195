#include <cuda_fp16.h>

#include <cmath>
#include <type_traits>

#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/elements.cuh"
#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__device__ __forceinline__ float widen(T x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __half2float(x);
  } else if constexpr (std::is_same_v<T, double>) {
    return static_cast<float>(x);  // f64 goes through f32, as on the host
  } else {
    return to_float(x);
  }
}
template <class T>
__device__ __forceinline__ T narrow(float x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(x);
  } else if constexpr (std::is_same_v<T, double>) {
    return x;
  } else {
    return from_float<T>(x);
  }
}

// y[i] = f(i's inputs) by runs of kN; the elements after the last whole run go one to a thread.
template <int kN, class T, class Run, class One>
__device__ __forceinline__ void for_elements(T* y, std::int64_t count, Run&& run, One&& one) {
  const std::int64_t thread = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads, runs = count / kN;
  for (std::int64_t i = thread; i < runs; i += stride) store(y + i * kN, run(i * kN));
  const std::int64_t last = runs * kN + thread;
  if (last < count) y[last] = one(last);
}

template <class T, int kN>
__global__ void __launch_bounds__(kThreads) add_kernel(T* y, const T* a, const T* b, std::int64_t count) {
  begin_early();
  for_elements<kN>(
      y, count,
      [&](std::int64_t i) {
        const auto left = load<kN>(a + i), right = load<kN>(b + i);
        Elements<T, kN> sum;
#pragma unroll
        for (int j = 0; j < kN; ++j) sum.set(j, left[j] + right[j]);
        return sum;
      },
      [&](std::int64_t i) { return from_float<T>(to_float(a[i]) + to_float(b[i])); });
}

template <class T, int kN>
__global__ void __launch_bounds__(kThreads) fill_kernel(T* y, float value, std::int64_t count) {
  Elements<T, kN> values;
#pragma unroll
  for (int j = 0; j < kN; ++j) values.values[j] = narrow<T>(value);
  for_elements<kN>(
      y, count, [&](std::int64_t) { return values; }, [&](std::int64_t) { return narrow<T>(value); });
}
// Every bit of the double.
__global__ void __launch_bounds__(kThreads) fill_double_kernel(double* y, double value, std::int64_t count) {
  for_elements<1>(
      y, count, [&](std::int64_t) { return Elements<double, 1>{{value}}; },
      [&](std::int64_t) { return value; });
}

template <class Y, class X, int kN>
__global__ void __launch_bounds__(kThreads) convert_kernel(Y* y, const X* x, std::int64_t count) {
  for_elements<kN>(
      y, count,
      [&](std::int64_t i) {
        const auto from = load<kN>(x + i);
        Elements<Y, kN> to;
#pragma unroll
        for (int j = 0; j < kN; ++j) to.values[j] = narrow<Y>(widen(from.values[j]));
        return to;
      },
      [&](std::int64_t i) { return narrow<Y>(widen(x[i])); });
}

// Calls f.template operator()<T>() with the storage type of any floating dtype.
template <class F>
void visit_storage(const char* op, DType t, F&& f) {
  if (t == DType::f32) return f.template operator()<float>();
  if (t == DType::f64) return f.template operator()<double>();
  if (t == DType::bf16) return f.template operator()<bf16>();
  if (t == DType::f16) return f.template operator()<__half>();
  fail("{}: dtype {} is not supported, expected f32, f64, bf16 or f16", op, name_of(t));
}

}  // namespace

void add(Context& ctx, Tensor y, ConstTensor a, ConstTensor b) {
  const auto count = y.count();
  if (count == 0) return;
  visit_activation("add", y.dtype, [&]<class T>() {
    constexpr int kN = 16 / sizeof(T);
    if (on_16_bytes({y, a, b})) {
      launch_early(ctx, "add", add_kernel<T, kN>, {dim3(grid_for(ctx, count, kThreads * kN)), kThreads},
                   pointer<T>(y), pointer<T>(a), pointer<T>(b), count);
    } else {
      launch_early(ctx, "add", add_kernel<T, 1>, {dim3(grid_for(ctx, count, kThreads)), kThreads},
                   pointer<T>(y), pointer<T>(a), pointer<T>(b), count);
    }
  });
}

void fill(Context& ctx, Tensor t, double value) {
  const auto count = t.count();
  if (count == 0) return;
  if (value == 0 && !std::signbit(value)) {
    return check_cuda(cudaMemsetAsync(t.mutable_data(), 0, t.bytes(), stream_of(ctx)), "fill");
  }
  visit_storage("fill", t.dtype, [&]<class T>() {
    constexpr int kN = 16 / sizeof(T);
    const auto small = static_cast<float>(value);
    if constexpr (std::is_same_v<T, double>) {
      fill_double_kernel<<<grid_for(ctx, count, kThreads), kThreads, 0, stream_of(ctx)>>>(pointer<T>(t),
                                                                                          value, count);
    } else if (on_16_bytes({t})) {
      fill_kernel<T, kN>
          <<<grid_for(ctx, count, kThreads * kN), kThreads, 0, stream_of(ctx)>>>(pointer<T>(t), small, count);
    } else {
      fill_kernel<T, 1>
          <<<grid_for(ctx, count, kThreads), kThreads, 0, stream_of(ctx)>>>(pointer<T>(t), small, count);
    }
  });
  check_launch();
}

void copy(Context& ctx, Tensor y, ConstTensor x) {
  const auto count = y.count();
  if (count == 0) return;
  if (y.dtype == x.dtype) {
    if (y.data == x.data) return;
    return check_cuda(
        cudaMemcpyAsync(y.mutable_data(), x.data, y.bytes(), cudaMemcpyDeviceToDevice, stream_of(ctx)),
        "copy");
  }
  visit_storage("copy", y.dtype, [&]<class Y>() {
    visit_storage("copy", x.dtype, [&]<class X>() {
      if constexpr (!std::is_same_v<X, Y>) {
        constexpr int kN = 16 / std::max(sizeof(Y), sizeof(X));  // both sides stay contiguous across a warp
        if (on_16_bytes({y, x})) {
          convert_kernel<Y, X, kN><<<grid_for(ctx, count, kThreads * kN), kThreads, 0, stream_of(ctx)>>>(
              pointer<Y>(y), pointer<X>(x), count);
        } else {
          convert_kernel<Y, X, 1><<<grid_for(ctx, count, kThreads), kThreads, 0, stream_of(ctx)>>>(
              pointer<Y>(y), pointer<X>(x), count);
        }
      }
    });
  });
  check_launch();
}

}  // namespace braid::cuda

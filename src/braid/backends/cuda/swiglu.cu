#include <bit>

#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/elements.cuh"
#include "braid/backends/cuda/device/swiglu.cuh"
#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostRowBlocks = 65535;

// Columns along x, rows along y; kN columns to a thread, `across` threads, a power of two, to a row of a
// block.
template <int kN>
struct Place {
  std::int64_t column, row, row_step;
  __device__ __forceinline__ explicit Place(int across) {
    const int thread = static_cast<int>(threadIdx.x), rows = kThreads / across;
    column = (std::int64_t{blockIdx.x} * across + thread % across) * kN;
    row = std::int64_t{blockIdx.y} * rows + thread / across;
    row_step = std::int64_t{gridDim.y} * rows;
  }
};

template <class T, int kN>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(T* y, const T* gate_up, std::int64_t rows, std::int64_t width, int across) {
  begin_early();
  const Place<kN> place(across);
  const std::int64_t c = place.column;
  if (c >= width) return;
  for (std::int64_t row = place.row; row < rows; row += place.row_step) {
    const T* from = gate_up + row * 2 * width + c;
    const auto gate = load<kN>(from), up = load<kN>(from + width);
    Elements<T, kN> out;
#pragma unroll
    for (int i = 0; i < kN; ++i) out.set(i, swiglu(gate[i], up[i]));
    store(y + row * width + c, out);
  }
}

// Each thread reads its elements before it overwrites them: dgate_up may be gate_up.
template <class T, int kN>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(T* dgate_up, const T* dy, const T* gate_up, std::int64_t rows, std::int64_t width,
                    int across) {
  const Place<kN> place(across);
  const std::int64_t c = place.column;
  if (c >= width) return;
  for (std::int64_t row = place.row; row < rows; row += place.row_step) {
    const std::int64_t at = row * 2 * width + c;
    const auto gate = load<kN>(gate_up + at), up = load<kN>(gate_up + at + width);
    const auto d = load<kN>(dy + row * width + c);
    Elements<T, kN> dgate, dup;
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      const SwigluGradient gradient(d[i], gate[i], up[i]);
      dgate.set(i, gradient.gate);
      dup.set(i, gradient.up);
    }
    store(dgate_up + at, dgate);
    store(dgate_up + at + width, dup);
  }
}

// Calls f.template operator()<T, elements per thread>(grid, across).
template <class F>
void visit(const char* op, const ConstTensor& y, F&& f) {
  const std::int64_t rows = y.shape[0], width = y.shape[1];
  visit_activation(op, y.dtype, [&]<class T>() {
    constexpr int kN = 16 / sizeof(T);
    const auto call = [&]<int kElements>() {
      const auto across = static_cast<int>(
          std::bit_ceil(static_cast<std::uint64_t>(std::min<std::int64_t>(width / kElements, kThreads))));
      const dim3 grid(static_cast<unsigned>(ceil_div(width, across * kElements)),
                      static_cast<unsigned>(std::min(ceil_div(rows, kThreads / across), kMostRowBlocks)));
      f.template operator()<T, kElements>(grid, across);
    };
    if (width % kN == 0) {
      call.template operator()<kN>();
    } else {
      call.template operator()<1>();
    }
  });
}

}  // namespace

void swiglu_forward(Context& ctx, Tensor y, ConstTensor gate_up) {
  if (y.count() == 0) return;
  visit("swiglu_forward", y, [&]<class T, int kN>(dim3 grid, int across) {
    launch_early(ctx, "swiglu_forward", forward_kernel<T, kN>, {grid, kThreads}, pointer<T>(y),
                 pointer<T>(gate_up), y.shape[0], y.shape[1], across);
  });
}

void swiglu_backward(Context& ctx, Tensor dgate_up, ConstTensor dy, ConstTensor gate_up) {
  if (dy.count() == 0) return;
  visit("swiglu_backward", dy, [&]<class T, int kN>(dim3 grid, int across) {
    backward_kernel<T, kN><<<grid, kThreads, 0, stream_of(ctx)>>>(
        pointer<T>(dgate_up), pointer<T>(dy), pointer<T>(gate_up), dy.shape[0], dy.shape[1], across);
  });
  check_launch();
}

}  // namespace braid::cuda

#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/rotation.cuh"
#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {
namespace {

constexpr int kTableThreads = 256, kThreads = 128;

// Travels as a kernel argument: the caller's span is host memory that need not outlive the call.
struct Frequencies {
  static constexpr std::size_t kMost = 256;
  double values[kMost];
};

__global__ void __launch_bounds__(kTableThreads)
    table_kernel(float* cosines, float* sines, __grid_constant__ const Frequencies frequencies, int half,
                 std::int64_t count, double factor) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kTableThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kTableThreads + threadIdx.x; i < count; i += stride) {
    double sine = 0, cosine = 0;
    sincos(static_cast<double>(i / half) * frequencies.values[i % half], &sine, &cosine);
    cosines[i] = static_cast<float>(factor * cosine);
    sines[i] = static_cast<float>(factor * sine);
  }
}

template <class T>
struct Rotate {
  T* y;
  const T* x;
  const float *cosines, *sines;
  const std::int32_t* positions;
  std::int64_t tokens, table_rows;
  int heads, half;  // half: of a head's width
  float direction;
};

// A block takes as many tokens as it has threads for, one at least.
template <class T, int kN>
__global__ void __launch_bounds__(kThreads) rotary_kernel(Rotate<T> p) {
  begin_early();
  const int runs = p.half / kN, all = p.heads * runs, thread = static_cast<int>(threadIdx.x);
  const int at_once = all < kThreads ? kThreads / all : 1;
  const std::int64_t token = std::int64_t{blockIdx.x} * at_once + (at_once > 1 ? thread / all : 0);
  if (token >= p.tokens || (at_once > 1 && thread >= at_once * all)) return;
  const std::int64_t position = p.positions[token];
  for (int i = at_once > 1 ? thread % all : thread; i < all; i += kThreads) {
    const int head = i / runs, c = i % runs * kN;
    const std::int64_t at = (token * p.heads + head) * 2 * p.half + c;
    const auto a = load<kN>(p.x + at), b = load<kN>(p.x + at + p.half);
    const auto [cosine, sine] = load_rotation<kN>(p.cosines, p.sines, position, p.table_rows, p.half, c);
    Elements<T, kN> first, second;
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      const float s = sine[j] * p.direction;
      first.set(j, a[j] * cosine[j] - b[j] * s);
      second.set(j, b[j] * cosine[j] + a[j] * s);
    }
    store(p.y + at, first);
    store(p.y + at + p.half, second);
  }
}

}  // namespace

void rotary_table(Context& ctx, Tensor cos, Tensor sin, std::span<const double> inverse_frequencies,
                  double factor) {
  require(cos.dtype == DType::f32, "rotary_table: cos is {}: expected f32 on cuda", describe(cos));
  require(inverse_frequencies.size() <= Frequencies::kMost,
          "rotary_table: {} inverse frequencies are not supported on cuda: at most {}",
          inverse_frequencies.size(), Frequencies::kMost);
  if (cos.count() == 0) return;
  Frequencies frequencies{};
  std::copy(inverse_frequencies.begin(), inverse_frequencies.end(), frequencies.values);
  table_kernel<<<grid_for(ctx, cos.count(), kTableThreads), kTableThreads, 0, stream_of(ctx)>>>(
      pointer<float>(cos), pointer<float>(sin), frequencies, static_cast<int>(cos.shape[1]), cos.count(),
      factor);
  check_launch();
}

void rotary(Context& ctx, Tensor y, ConstTensor x, ops::RotaryTable table, ConstTensor positions,
            ops::Rotation rotation) {
  if (x.count() == 0) return;
  visit_activation("rotary", x.dtype, [&]<class T>() {
    constexpr int kN = 16 / sizeof(T);
    const Rotate<T> arguments{.y = pointer<T>(y),
                              .x = pointer<T>(x),
                              .cosines = pointer<float>(table.cos),
                              .sines = pointer<float>(table.sin),
                              .positions = pointer<std::int32_t>(positions),
                              .tokens = x.shape[0],
                              .table_rows = table.cos.shape[0],
                              .heads = static_cast<int>(x.shape[1]),
                              .half = static_cast<int>(x.shape[2] / 2),
                              .direction = rotation == ops::Rotation::forward ? 1.0F : -1.0F};
    const auto blocks = [&](int elements) {
      const auto all = arguments.heads * (arguments.half / elements);
      return dim3(static_cast<unsigned>(ceil_div(x.shape[0], all < kThreads ? kThreads / all : 1)));
    };
    if (arguments.half % kN == 0) {
      launch_early(ctx, "rotary", rotary_kernel<T, kN>, {blocks(kN), kThreads}, arguments);
    } else {
      launch_early(ctx, "rotary", rotary_kernel<T, 1>, {blocks(1), kThreads}, arguments);
    }
  });
}

}  // namespace braid::cuda

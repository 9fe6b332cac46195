// The norm of query and key projections and the rotation of their heads: a row is read once, stays in the
// registers of the threads that share it, and is written once. A thread holds both halves of what it rotates.
#include <limits>

#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/rotation.cuh"
#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {
namespace {

// kGroup threads share a row, each with kItems pairs of runs of kN elements: pair item · kGroup + lane.
// Blocks of four warps have at most 80 registers a thread: one warp of it then fits beside two of decoding's
// attention, of 216, into the 512 rows of registers that a quarter of a multiprocessor has.
template <class Element, int kThreadsOfRow, int kPairs>
struct Layout {
  using T = Element;
  static constexpr int kN = 16 / sizeof(T), kGroup = kThreadsOfRow, kItems = kPairs;
  static constexpr int kThreads = kGroup < 128 ? 256 : kGroup, kRows = kThreads / kGroup;
  static constexpr int kResident = kThreads == 128 ? 6 : 1;
};

template <class T>
struct Part {
  T* y;
  float* inverse_rms;
  const T* x;
  const float* weight;
  int width;
};

template <class T>
struct Arguments {
  Part<T> parts[ops::kMostNormRotaryParts];
  const float *cosines, *sines;  // null: nothing is rotated
  const std::int32_t* positions;
  std::int64_t tokens, table_rows;
  int count, half;  // of parts; of a head's width
  float epsilon;
  bool ahead;  // weights and positions may be read before the kernel's turn
};

// Rows are tokens times parts.
template <class L>
__global__ void __launch_bounds__(L::kThreads, L::kResident)
    norm_rotary_kernel(__grid_constant__ const Arguments<typename L::T> a) {
  using Run = Elements<typename L::T, L::kN>;
  __shared__ float shared[L::kThreads / 32];
  begin_early(a.ahead);
  const int lane = static_cast<int>(threadIdx.x) % L::kGroup,
            group = static_cast<int>(threadIdx.x) / L::kGroup;
  // 64-bit division takes as long as all the rest; the launch keeps rows within 32 bits.
  const std::uint32_t row = blockIdx.x * L::kRows + static_cast<std::uint32_t>(group),
                      count = static_cast<std::uint32_t>(a.count);
  const std::int64_t token = row / count;
  const bool inside = token < a.tokens;
  const Part<typename L::T>& part = a.parts[row % count];
  const std::int64_t begin = token * part.width;
  const int runs = a.half / L::kN, pairs = inside ? part.width / (2 * L::kN) : 0;
  const auto column = [&](int i) {
    const int pair = i * L::kGroup + lane;
    return pair / runs * 2 * a.half + pair % runs * L::kN;
  };
  const bool rotates = a.cosines != nullptr;
  const std::int64_t position = rotates && inside ? a.positions[token] : 0;
  if (a.ahead) {
    for (int i = 0; i < L::kItems; ++i) {
      if (i * L::kGroup + lane >= pairs) continue;
      const int c = column(i);
      keep_in_l2(part.weight + c);
      keep_in_l2(part.weight + c + a.half);
      if (rotates) prefetch_rotation(a.cosines, a.sines, position, a.table_rows, a.half, c % (2 * a.half));
    }
    wait_for_earlier();
  }
  Run first[L::kItems], second[L::kItems];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < L::kItems; ++i) {
    if (i * L::kGroup + lane >= pairs) continue;
    first[i] = load<L::kN>(part.x + begin + column(i));
    second[i] = load<L::kN>(part.x + begin + column(i) + a.half);
#pragma unroll
    for (int j = 0; j < L::kN; ++j) {
      squares = fmaf(first[i][j], first[i][j], squares);
      squares = fmaf(second[i][j], second[i][j], squares);
    }
  }
  const float mean = group_sum<L::kGroup>(squares, shared) / static_cast<float>(part.width);
  const float r = 1.0F / sqrtf(mean + a.epsilon);
  if (lane == 0 && inside) part.inverse_rms[token] = r;
#pragma unroll
  for (int i = 0; i < L::kItems; ++i) {
    if (i * L::kGroup + lane >= pairs) continue;
    const int c = column(i), within = c % (2 * a.half);
    const auto w1 = load_constant<L::kN>(part.weight + c),
               w2 = load_constant<L::kN>(part.weight + c + a.half);
    Rotation<L::kN> turn;
    if (rotates) {
      turn = load_rotation<L::kN>(a.cosines, a.sines, position, a.table_rows, a.half, within);
    } else {
#pragma unroll
      for (int j = 0; j < L::kN; ++j) turn.cosine.values[j] = 1, turn.sine.values[j] = 0;
    }
    Run y1, y2;
#pragma unroll
    for (int j = 0; j < L::kN; ++j) {
      const float x1 = first[i][j] * r * w1[j], x2 = second[i][j] * r * w2[j];
      y1.set(j, x1 * turn.cosine[j] - x2 * turn.sine[j]);
      y2.set(j, x2 * turn.cosine[j] + x1 * turn.sine[j]);
    }
    store(part.y + begin + c, y1);
    store(part.y + begin + c + a.half, y2);
  }
}

// Calls f.template operator()<Layout>() with the narrowest layout that holds the widest row; false where none
// does.
template <class T, class F>
bool visit_layout(int width, int half, F&& f) {
  constexpr int kN = 16 / sizeof(T);
  if (half % kN != 0) return false;
  const int pairs = width / (2 * kN);
  if (pairs > 2048) return false;
  if (pairs <= 16) {
    f.template operator()<Layout<T, 16, 1>>();
  } else if (pairs <= 32) {
    f.template operator()<Layout<T, 32, 1>>();
  } else if (pairs <= 64) {
    f.template operator()<Layout<T, 32, 2>>();
  } else if (pairs <= 256) {
    f.template operator()<Layout<T, 128, 2>>();
  } else if (pairs <= 512) {
    f.template operator()<Layout<T, 512, 1>>();
  } else {
    f.template operator()<Layout<T, 1024, 2>>();
  }
  return true;
}

}  // namespace

void norm_rotary_forward(Context& ctx, std::span<const ops::NormRotaryPart> parts,
                         const std::optional<ops::RotaryTable>& table, ConstTensor positions,
                         double epsilon) {
  const Shape& shape = parts.front().y.shape;
  if (shape[0] == 0 || shape[2] == 0) return;
  const bool done = visit_activation("norm_rotary_forward", parts.front().y.dtype, [&]<class T>() {
    Arguments<T> a{.parts = {},
                   .cosines = table ? pointer<float>(table->cos) : nullptr,
                   .sines = table ? pointer<float>(table->sin) : nullptr,
                   .positions = table ? pointer<std::int32_t>(positions) : nullptr,
                   .tokens = shape[0],
                   .table_rows = table ? table->cos.shape[0] : 0,
                   .count = static_cast<int>(parts.size()),
                   .half = static_cast<int>(shape[2] / 2),
                   .epsilon = static_cast<float>(epsilon),
                   .ahead = ctx.fetch == Fetch::ahead};
    std::int64_t widest = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const auto width = parts[i].x.shape[1];
      widest = std::max(widest, width);
      a.parts[i] = {pointer<T>(parts[i].y), pointer<float>(parts[i].inverse_rms), pointer<T>(parts[i].x),
                    pointer<float>(parts[i].weight), static_cast<int>(width)};
    }
    constexpr std::int64_t kMostRows = std::numeric_limits<std::int32_t>::max();
    return shape[2] % 2 == 0 && a.tokens * a.count <= kMostRows &&
           visit_layout<T>(static_cast<int>(widest), a.half, [&]<class L>() {
             const auto blocks = static_cast<unsigned>(ceil_div(a.tokens * a.count, L::kRows));
             launch_early(ctx, "norm_rotary_forward", norm_rotary_kernel<L>,
                          {.grid = dim3(blocks), .threads = L::kThreads, .rows = a.tokens}, a);
           });
  });
  if (!done) ops::norm_rotary_forward_in_parts(ctx, parts, table, positions, epsilon);
}

}  // namespace braid::cuda

#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "braid/backends/cuda/column_sums.h"
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/elements.cuh"
#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kChunk = 32;  // sorted tokens that one block adds in order

// `across` threads, a power of two, to a token. An id outside the table gives NaN, which shows; the host
// cannot look.
template <class T, class W, int kN>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(T* y, const std::int32_t* ids, const W* __restrict__ table, std::int64_t tokens,
                   std::int64_t rows, std::int64_t width, int across) {
  begin_early();
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t token = std::int64_t{blockIdx.x} * (kThreads / across) + thread / across;
  if (token >= tokens) return;
  const std::int64_t id = ids[token];
  const bool known = id >= 0 && id < rows;
#pragma unroll 4
  for (std::int64_t c = std::int64_t{thread % across} * kN; c < width; c += across * kN) {
    Elements<T, kN> out;
    if (known) {
      const auto in = load<kN>(table + id * width + c);
#pragma unroll
      for (int i = 0; i < kN; ++i) out.set(i, in[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kN; ++i) out.set(i, nanf(""));
    }
    store(y + token * width + c, out);
  }
}

// Tables so small that a block has kSmallColumns columns of one in shared memory: each thread adds its own to
// them, token after token of the block's strip.
constexpr int kSmallColumns = 2 * kThreads, kSmallRows = 200;
constexpr std::int64_t kSmallWidth = 512;  // beyond it the strips' sums would be more than the sort's

bool is_small(const ConstTensor& dtable) {
  return dtable.shape[0] <= kSmallRows && dtable.shape[1] <= kSmallWidth && dtable.shape[1] % 2 == 0;
}

// Block x takes a strip of tokens, block y a range of columns; sums: (strips, rows · width).
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_small_kernel(float* sums, const T* __restrict__ dy, const std::int32_t* ids, std::int64_t tokens,
                     std::int64_t strip, int rows, std::int64_t width) {
  constexpr int kAhead = 16;  // tokens in flight
  extern __shared__ float2 table[];
  for (int id = 0; id < rows; ++id) table[id * kThreads + threadIdx.x] = {0, 0};
  const std::int64_t c = std::int64_t{blockIdx.y} * kSmallColumns + 2 * threadIdx.x;
  if (c >= width) return;
  const std::int64_t begin = blockIdx.x * strip, end = min(begin + strip, tokens);
  for (std::int64_t n = begin; n < end; n += kAhead) {
    Elements<T, 2> x[kAhead];
    std::int32_t id[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      id[i] = -1;
      if (n + i >= end) continue;
      id[i] = ids[n + i];
      x[i] = load<2>(dy + (n + i) * width + c);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (id[i] < 0 || id[i] >= rows) continue;
      float2& sum = table[id[i] * kThreads + threadIdx.x];
      sum.x += x[i][0];
      sum.y += x[i][1];
    }
  }
  float* const out = sums + blockIdx.x * rows * width + c;
  for (int id = 0; id < rows; ++id) {
    *reinterpret_cast<float2*>(out + id * width) = table[id * kThreads + threadIdx.x];
  }
}

// Ids outside the table become `rows`, which sorts last and is added nowhere.
__global__ void __launch_bounds__(kThreads)
    number_kernel(std::uint32_t* keys, std::int32_t* tokens, const std::int32_t* ids, std::int64_t count,
                  std::uint32_t rows) {
  const std::int64_t n = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (n >= count) return;
  keys[n] = min(static_cast<std::uint32_t>(ids[n]), rows);
  tokens[n] = static_cast<std::int32_t>(n);
}

// Tokens sorted by id, those of one id ascending, cut into chunks of kChunk.
struct Sorted {
  const std::uint32_t* ids;
  const std::int32_t* tokens;
  std::int64_t count;
  std::uint32_t rows;  // of the table

  // Whether chunk k begins within a run of one id.
  __device__ __forceinline__ bool continues(std::int64_t k) const {
    return k > 0 && ids[k * kChunk - 1] == ids[k * kChunk];
  }
};

// Block x takes a chunk, block y a range of columns. A run of one id is added to its row of dtable by the
// chunk in which it begins; later chunks leave their part of it in `heads` (chunks, width).
template <class T, int kN>
__global__ void __launch_bounds__(kThreads)
    add_runs_kernel(float* dtable, float* heads, const T* __restrict__ dy, Sorted sorted,
                    std::int64_t width) {
  constexpr int kAhead = 8;  // rows in flight
  __shared__ std::uint32_t ids[kChunk];
  __shared__ std::int32_t tokens[kChunk];
  const std::int64_t chunk = blockIdx.x, begin = chunk * kChunk;
  const int length = static_cast<int>(min(std::int64_t{kChunk}, sorted.count - begin));
  if (static_cast<int>(threadIdx.x) < length) {
    ids[threadIdx.x] = sorted.ids[begin + threadIdx.x];
    tokens[threadIdx.x] = sorted.tokens[begin + threadIdx.x];
  }
  bool is_head = sorted.continues(chunk);
  __syncthreads();
  const std::int64_t c = (std::int64_t{blockIdx.y} * kThreads + threadIdx.x) * kN;
  if (c >= width) return;

  Elements<float, kN> sum{};
  for (int i = 0; i < length; i += kAhead) {
    Elements<T, kN> rows[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (i + j < length) rows[j] = load<kN>(dy + tokens[i + j] * width + c);
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (i + j >= length) continue;
#pragma unroll
      for (int e = 0; e < kN; ++e) sum.values[e] += rows[j][e];
      const std::uint32_t id = ids[i + j];
      if (i + j + 1 < length && ids[i + j + 1] == id) continue;
      if (is_head) {
        store(heads + chunk * width + c, sum);
      } else if (id < sorted.rows) {
        float* row = dtable + id * width + c;
        Elements<float, kN> before = load<kN>(row);
#pragma unroll
        for (int e = 0; e < kN; ++e) before.values[e] += sum[e];
        store(row, before);
      }
      sum = {};
      is_head = false;
    }
  }
}

// For a run over several chunks: the block of its second chunk adds the heads in order. One column per
// thread.
__global__ void __launch_bounds__(kThreads)
    add_heads_kernel(float* dtable, const float* __restrict__ heads, Sorted sorted, std::int64_t width) {
  const std::int64_t chunk = blockIdx.x, chunks = gridDim.x;
  if (!sorted.continues(chunk)) return;
  const std::uint32_t id = sorted.ids[chunk * kChunk];
  if (id >= sorted.rows) return;
  if (sorted.continues(chunk - 1) && sorted.ids[(chunk - 1) * kChunk] == id) return;  // not the second
  const std::int64_t c = std::int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (c >= width) return;
  std::int64_t last = chunk, beyond = chunks;  // ids[last · kChunk] is id, ids[beyond · kChunk] is not
  while (beyond - last > 1) {
    const std::int64_t middle = (last + beyond) / 2;
    (sorted.ids[middle * kChunk] == id ? last : beyond) = middle;
  }
  float sum = dtable[id * width + c];
#pragma unroll 16
  for (std::int64_t k = chunk; k <= last; ++k) sum += heads[k * width + c];
  dtable[id * width + c] = sum;
}

struct BackwardScratch {
  Tensor keys, sorted_keys, tokens, sorted_tokens;  // (N)
  Tensor sort;                                      // what the sort asks for
  Tensor heads;                                     // (chunks, C)
};

int key_bits(const ConstTensor& dtable) {
  return std::bit_width(static_cast<std::uint32_t>(dtable.shape[0]));
}

// Runs the sort, or only asks for its memory where scratch.sort is not made yet.
std::size_t sort(Context& ctx, const BackwardScratch& s, int bits) {
  auto bytes = s.sort.defined() ? s.sort.bytes() : 0;
  void* memory = s.sort.defined() ? s.sort.mutable_data() : nullptr;
  check_cuda(cub::DeviceRadixSort::SortPairs(
                 memory, bytes, pointer<std::uint32_t>(s.keys), pointer<std::uint32_t>(s.sorted_keys),
                 pointer<std::int32_t>(s.tokens), pointer<std::int32_t>(s.sorted_tokens),
                 static_cast<int>(s.keys.count()), 0, bits, stream_of(ctx)),
             "embedding_backward: sort");
  return bytes;
}

BackwardScratch make_backward_scratch(Context& ctx, const ConstTensor& dtable, const ConstTensor& dy) {
  const auto tokens = dy.shape[0];
  const auto make = [&] { return ctx.scratch->make(DType::i32, {tokens}); };
  BackwardScratch s{make(), make(), make(), make(), {}, {}};
  const auto bytes = std::max<std::size_t>(sort(ctx, s, key_bits(dtable)), 1);
  s.sort = ctx.scratch->make(DType::u8, {static_cast<std::int64_t>(bytes)});
  s.heads = ctx.scratch->make(DType::f32, {ceil_div(tokens, kChunk), dy.shape[1]});
  return s;
}

// As many strips as multiprocessors, but of 64 tokens at least.
Tensor make_small_sums(Context& ctx, const ConstTensor& dtable, const ConstTensor& dy) {
  const auto strips = std::clamp<std::int64_t>(dy.shape[0] / 64, 1, state_of(ctx).multiprocessors);
  return ctx.scratch->make(DType::f32, {strips, dtable.count()});
}

void add_small(Context& ctx, const Tensor& dtable, const ConstTensor& dy, const ConstTensor& ids) {
  const Tensor sums = make_small_sums(ctx, dtable, dy);
  const auto tokens = dy.shape[0], width = dy.shape[1], strips = sums.shape[0];
  const auto rows = static_cast<int>(dtable.shape[0]);
  const dim3 grid(static_cast<unsigned>(strips), static_cast<unsigned>(ceil_div(width, kSmallColumns)));
  const int bytes = rows * kSmallColumns * 4;
  visit_activation("embedding_backward", dy.dtype, [&]<class T>() {
    const auto kernel = add_small_kernel<T>;
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    kSmallRows * kSmallColumns * 4),
               "embedding_backward");
    kernel<<<grid, kThreads, static_cast<std::size_t>(bytes), stream_of(ctx)>>>(
        pointer<float>(sums), pointer<T>(dy), pointer<std::int32_t>(ids), tokens, ceil_div(tokens, strips),
        rows, width);
    check_launch("embedding_backward");
  });
  add_column_sums(ctx, dtable, sums);
}

template <class T, int kN>
void add_runs(Context& ctx, const Tensor& dtable, const ConstTensor& dy, const BackwardScratch& s,
              const Sorted& sorted) {
  const auto width = dy.shape[1];
  const dim3 grid(static_cast<unsigned>(s.heads.shape[0]),
                  static_cast<unsigned>(ceil_div(width, kThreads * kN)));
  add_runs_kernel<T, kN><<<grid, kThreads, 0, stream_of(ctx)>>>(
      pointer<float>(dtable), pointer<float>(s.heads), pointer<T>(dy), sorted, width);
  check_launch("embedding_backward");
}

}  // namespace

void embedding_forward(Context& ctx, Tensor y, ConstTensor ids, ConstTensor table) {
  if (y.count() == 0) return;
  const auto width = y.shape[1];
  const auto launch = [&]<class T, class W, int kN>() {
    const auto across = static_cast<int>(
        std::bit_ceil(static_cast<std::uint64_t>(std::min<std::int64_t>(width / kN, kThreads))));
    const auto blocks = static_cast<unsigned>(ceil_div(y.shape[0], kThreads / across));
    launch_early(ctx, "embedding_forward", forward_kernel<T, W, kN>, {dim3(blocks), kThreads}, pointer<T>(y),
                 pointer<std::int32_t>(ids), pointer<W>(table), y.shape[0], table.shape[0], width, across);
  };
  visit_activation("embedding_forward", y.dtype, [&]<class T>() {
    visit_activation("embedding_forward", table.dtype, [&]<class W>() {
      constexpr int kN = 16 / std::max(sizeof(T), sizeof(W));
      if (width % kN == 0) {
        launch.template operator()<T, W, kN>();
      } else {
        launch.template operator()<T, W, 1>();
      }
    });
  });
}

void embedding_backward(Context& ctx, Tensor dtable, ConstTensor dy, ConstTensor ids) {
  if (dy.count() == 0) return;
  const auto tokens = dy.shape[0], width = dy.shape[1];
  const Arena::Scope scope(*ctx.scratch);
  if (is_small(dtable)) return add_small(ctx, dtable, dy, ids);
  const BackwardScratch s = make_backward_scratch(ctx, dtable, dy);
  const Sorted sorted{.ids = pointer<std::uint32_t>(s.sorted_keys),
                      .tokens = pointer<std::int32_t>(s.sorted_tokens),
                      .count = tokens,
                      .rows = static_cast<std::uint32_t>(dtable.shape[0])};
  number_kernel<<<static_cast<unsigned>(ceil_div(tokens, kThreads)), kThreads, 0, stream_of(ctx)>>>(
      pointer<std::uint32_t>(s.keys), pointer<std::int32_t>(s.tokens), pointer<std::int32_t>(ids), tokens,
      sorted.rows);
  check_launch();
  sort(ctx, s, key_bits(dtable));
  visit_activation("embedding_backward", dy.dtype, [&]<class T>() {
    constexpr int kN = 16 / sizeof(T);
    if (width % kN == 0) {
      add_runs<T, kN>(ctx, dtable, dy, s, sorted);
    } else {
      add_runs<T, 1>(ctx, dtable, dy, s, sorted);
    }
  });
  const dim3 grid(static_cast<unsigned>(s.heads.shape[0]), static_cast<unsigned>(ceil_div(width, kThreads)));
  add_heads_kernel<<<grid, kThreads, 0, stream_of(ctx)>>>(pointer<float>(dtable), pointer<float>(s.heads),
                                                          sorted, width);
  check_launch();
}

void scratch::embedding_backward(Context& ctx, Tensor dtable, ConstTensor dy, ConstTensor) {
  if (dy.count() == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  if (is_small(dtable)) {
    make_small_sums(ctx, dtable, dy);
  } else {
    make_backward_scratch(ctx, dtable, dy);
  }
}

}  // namespace braid::cuda

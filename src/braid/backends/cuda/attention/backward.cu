#include "braid/backends/cuda/attention/products.cuh"

namespace braid::cuda::flash {
namespace {

// Four tiles as wide as a head must fit in shared memory.
template <int kWidth>
constexpr int kPerThread = kWidth == 256 ? 2 : 4;
template <int kWidth>
constexpr int kTile = 16 * kPerThread<kWidth>;
template <int kWidth>
constexpr std::size_t kShared = sizeof(float) * (4 * SharedTile<kTile<kWidth>, kWidth>::kFloats +
                                                 2 * SharedTile<kTile<kWidth>, kTile<kWidth>>::kFloats);

template <class T>
struct Arguments {
  T *dq, *dk, *dv;
  const T *q, *k, *v, *dy;
  const float *log_sum_exp, *row_dot;
};

// The block's shared memory. `a` and `b` hold what stays, `c` and `d` what the loop brings.
template <int kWidth>
struct Shared {
  SharedTile<kTile<kWidth>, kWidth> a, b, c, d;
  SharedTile<kTile<kWidth>, kTile<kWidth>> weights, slopes;
  __device__ explicit Shared(float* memory)
      : a{memory},
        b{a.data + a.kFloats},
        c{b.data + b.kFloats},
        d{c.data + c.kFloats},
        weights{d.data + d.kFloats},
        slopes{weights.data + weights.kFloats} {}
};

// dy · y per row, summed in dot_rows' order: a row that sees only itself then has a gradient of exactly 0.
template <class T>
__global__ void __launch_bounds__(kThreads)
    row_dot_kernel(float* row_dot, const T* dy, const T* y, std::int64_t rows, std::int32_t width) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= rows) return;
  float sum = 0;
#pragma unroll 4
  for (int d = 0; d < width; ++d)
    sum = fmaf(to_float(dy[row * width + d]), to_float(y[row * width + d]), sum);
  row_dot[row] = sum;
}

// A softmax weight and the gradient of its score; both 0 where the query does not see the key.
struct Weight {
  float weight = 0, slope = 0;
  __device__ Weight(const Problem& p, bool seen, float dot, float d_weight, float log_sum_exp,
                    float row_dot) {
    if (!seen) return;
    weight = expf(p.scale * dot - log_sum_exp);
    slope = p.scale * weight * (d_weight - row_dot);
  }
};

// dk and dv of one tile of keys and one of their heads: the query heads of its group one after another, the
// tiles of queries in ascending order.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) key_kernel(Arguments<T> a, Problem p) {
  constexpr int R = kPerThread<kWidth>, kRows = kTile<kWidth>;
  extern __shared__ float4 memory[];
  const Shared<kWidth> shared(reinterpret_cast<float*>(memory));
  const auto kv_head = static_cast<std::int32_t>(blockIdx.x) % p.kv_heads;
  const Tile tile = find_tile<kRows>(p, static_cast<std::int32_t>(blockIdx.x / p.kv_heads));
  if (tile.count <= 0) return;
  const auto row_at = [&](auto* of, std::int32_t position, std::int32_t heads, std::int32_t head) {
    return of + ((std::int64_t{tile.segment_begin} + position) * heads + head) * p.width;
  };
  const auto load_keys = [&](const auto& to, const T* of) {
    to.load(p.width, [&](int r) {
      return r < tile.count ? row_at(of, tile.begin + r, p.kv_heads, kv_head) : nullptr;
    });
  };
  load_keys(shared.a, a.k);
  load_keys(shared.b, a.v);

  Rows<R, kWidth> dk, dv;
  dk.clear();
  dv.clear();
  const auto last = static_cast<std::int32_t>(
      min(std::int64_t{tile.segment_length} - 1, std::int64_t{tile.last_position()} + p.window - 1));
  const std::int32_t group = p.heads / p.kv_heads;
  for (std::int32_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (std::int32_t begin = tile.begin; begin <= last; begin += kRows) {
      const auto load_queries = [&](const auto& to, const T* of) {
        to.load(p.width,
                [&](int r) { return begin + r <= last ? row_at(of, begin + r, p.heads, head) : nullptr; });
      };
      __syncthreads();
      load_queries(shared.c, a.q);
      load_queries(shared.d, a.dy);
      __syncthreads();
      float dots[R][R], d_weights[R][R];  // [key][query]
      dot_rows<R, kWidth>(dots, shared.a, shared.c);
      dot_rows<R, kWidth>(d_weights, shared.b, shared.d);
#pragma unroll
      for (int j = 0; j < R; ++j) {
        const std::int32_t query = begin + thread_column() + 16 * j;
        const std::int64_t row = (std::int64_t{tile.segment_begin} + min(query, last)) * p.heads + head;
        const float log_sum_exp = a.log_sum_exp[row], row_dot = a.row_dot[row];
#pragma unroll
        for (int i = 0; i < R; ++i) {
          const std::int32_t key = tile.begin + thread_row() + 16 * i;
          const bool seen = query <= last && visible(p, query, key);
          const Weight w(p, seen, dots[i][j], d_weights[i][j], log_sum_exp, row_dot);
          dots[i][j] = w.weight;
          d_weights[i][j] = w.slope;
        }
      }
      store_scores<R>(shared.weights, dots);
      store_scores<R>(shared.slopes, d_weights);
      __syncthreads();
      dv.add(shared.weights, shared.d);
      dk.add(shared.slopes, shared.c);
    }
  }
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const int r = thread_row() + 16 * i;
    if (r >= tile.count) continue;
    dk.store(row_at(a.dk, tile.begin + r, p.kv_heads, kv_head), i, p.width);
    dv.store(row_at(a.dv, tile.begin + r, p.kv_heads, kv_head), i, p.width);
  }
}

// dq of one tile of queries and one head.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) query_kernel(Arguments<T> a, Problem p) {
  constexpr int R = kPerThread<kWidth>, kRows = kTile<kWidth>;
  extern __shared__ float4 memory[];
  const Shared<kWidth> shared(reinterpret_cast<float*>(memory));
  const auto head = static_cast<std::int32_t>(blockIdx.x) % p.heads;
  const Tile tile = find_tile<kRows>(p, static_cast<std::int32_t>((gridDim.x - 1 - blockIdx.x) / p.heads));
  if (tile.count <= 0) return;
  const std::int32_t kv_head = head / (p.heads / p.kv_heads), last = tile.last_position();
  const std::int32_t lowest = first_visible(p, tile.begin);
  const auto row_at = [&](auto* of, std::int32_t position, std::int32_t heads, std::int32_t of_head) {
    return of + ((std::int64_t{tile.segment_begin} + position) * heads + of_head) * p.width;
  };
  const auto load_queries = [&](const auto& to, const T* of) {
    to.load(p.width,
            [&](int r) { return r < tile.count ? row_at(of, tile.begin + r, p.heads, head) : nullptr; });
  };
  load_queries(shared.a, a.q);
  load_queries(shared.b, a.dy);
  float log_sum_exp[R], row_dot[R];
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const std::int32_t r = min(thread_row() + 16 * i, tile.count - 1);
    const std::int64_t row = (std::int64_t{tile.segment_begin} + tile.begin + r) * p.heads + head;
    log_sum_exp[i] = a.log_sum_exp[row];
    row_dot[i] = a.row_dot[row];
  }

  Rows<R, kWidth> dq;
  dq.clear();
  for (std::int32_t begin = lowest / kRows * kRows; begin <= last; begin += kRows) {
    const auto load_keys = [&](const auto& to, const T* of) {
      to.load(p.width, [&](int r) {
        const bool exists = begin + r >= lowest && begin + r <= last;
        return exists ? row_at(of, begin + r, p.kv_heads, kv_head) : nullptr;
      });
    };
    __syncthreads();
    load_keys(shared.c, a.k);
    load_keys(shared.d, a.v);
    __syncthreads();
    float dots[R][R], d_weights[R][R];  // [query][key]
    dot_rows<R, kWidth>(dots, shared.a, shared.c);
    dot_rows<R, kWidth>(d_weights, shared.b, shared.d);
#pragma unroll
    for (int i = 0; i < R; ++i) {
      const std::int32_t r = thread_row() + 16 * i;
#pragma unroll
      for (int j = 0; j < R; ++j) {
        const bool seen = r < tile.count && visible(p, tile.begin + r, begin + thread_column() + 16 * j);
        dots[i][j] = Weight(p, seen, dots[i][j], d_weights[i][j], log_sum_exp[i], row_dot[i]).slope;
      }
    }
    store_scores<R>(shared.slopes, dots);
    __syncthreads();
    dq.add(shared.slopes, shared.c);
  }
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const int r = thread_row() + 16 * i;
    if (r < tile.count) dq.store(row_at(a.dq, tile.begin + r, p.heads, head), i, p.width);
  }
}

}  // namespace

void backward(Context& ctx, const ops::AttentionGradients& grads, ConstTensor dy,
              const ops::AttentionInputs& in, const ops::AttentionOutputs& out, Tensor row_dot,
              const Problem& p) {
  if (dy.count() == 0) return;
  if (on_tensor_cores(dy.dtype, p.width)) return backward_bf16(ctx, grads, dy, in, out, row_dot, p);
  visit_activation("attention_backward", dy.dtype, [&]<class T>() {
    launch(ctx, row_dot_kernel<T>, ceil_div(row_dot.count(), kThreads), kThreads, 0, pointer<float>(row_dot),
           pointer<T>(dy), pointer<T>(out.y), row_dot.count(), p.width);
    const Arguments<T> arguments{pointer<T>(grads.q),
                                 pointer<T>(grads.k),
                                 pointer<T>(grads.v),
                                 pointer<T>(in.q),
                                 pointer<T>(in.k),
                                 pointer<T>(in.v),
                                 pointer<T>(dy),
                                 pointer<float>(out.log_sum_exp),
                                 pointer<float>(ConstTensor{row_dot})};
    visit_width(p.width, [&]<int kWidth>() {
      const auto tiles = most_tiles(p, kTile<kWidth>);
      launch(ctx, key_kernel<T, kWidth>, tiles * p.kv_heads, kThreads, kShared<kWidth>, arguments, p);
      launch(ctx, query_kernel<T, kWidth>, tiles * p.heads, kThreads, kShared<kWidth>, arguments, p);
    });
  });
}

}  // namespace braid::cuda::flash

// The CPU ops at the shapes of a small training run (width 384, 4096 tokens) and of decoding:
//   bench_ops_cpu [--benchmark_filter=REGEX]
// Reports GFLOP/s for products and GB/s for the rest: bytes of every tensor read or written, once.
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <vector>

#include "braid/backends/backends.h"
#include "braid/core/random.h"
#include "braid/ops/op_table.h"

namespace braid {
namespace {

constexpr std::int64_t kTokens = 4096, kWidth = 384, kHidden = 1024, kVocabulary = 8192, kHeads = 6;
constexpr std::int64_t kHeadWidth = 64, kSequence = 512;

// A context and tensors that live as long as it.
class Bench {
 public:
  explicit Bench(Arithmetic arithmetic = Arithmetic::fast) {
    context_ = {.device = Device::cpu,
                .ops = cpu::op_table(),
                .scratch = &arena_,
                .state = state_.get(),
                .arithmetic = arithmetic};
  }
  Context& ctx() { return context_; }
  Tensor zeros(DType dtype, const Shape& shape) {
    Tensor t;
    t.dtype = dtype;
    t.shape = shape;
    t.data = buffers_.emplace_back(t.bytes()).data();
    std::memset(t.mutable_data(), 0, t.bytes());  // maps the pages before any timing
    return t;
  }
  Tensor normal(const Shape& shape, DType dtype = DType::f32) {
    const Tensor x = zeros(DType::f32, shape);
    for (std::int64_t i = 0; i < x.count(); ++i) {
      x.as<float>()[i] = static_cast<float>(random_.uniform() * 2 - 1);
    }
    if (dtype == DType::f32) return x;
    const Tensor y = zeros(dtype, shape);
    ops::copy(context_, y, x);
    return y;
  }
  Tensor integers(std::int64_t count, std::int64_t below) {
    const Tensor t = zeros(DType::i32, {count});
    for (std::int64_t i = 0; i < count; ++i) {
      t.as<std::int32_t>()[i] = static_cast<std::int32_t>(random_.below(static_cast<std::uint64_t>(below)));
    }
    return t;
  }
  ops::Segments segments(std::int64_t tokens, std::int64_t length) {
    const Tensor t = zeros(DType::i32, {tokens / length + 1});
    for (std::int64_t s = 0; s < t.count(); ++s)
      t.as<std::int32_t>()[s] = static_cast<std::int32_t>(s * length);
    return {t};
  }

 private:
  std::unique_ptr<BackendState> state_ = cpu::make_state({});
  Buffer scratch_{std::size_t{1} << 28};
  Arena arena_{scratch_};
  Random random_{1};
  std::vector<Buffer> buffers_;
  Context context_;
};

void rate(benchmark::State& state, const char* name, double each) {
  state.counters[name] = benchmark::Counter(each * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}
// `floats` is the number of f32 values that the op must read or write.
void bandwidth(benchmark::State& state, std::int64_t floats) {
  rate(state, "GB/s", 4.0 * static_cast<double>(floats));
}

// Arguments: rows, columns, inner; layout 0: x · Wᵀ, 1: dy · W, 2: dW += dyᵀ · x.
void matmul(benchmark::State& state, Arithmetic arithmetic) {
  Bench bench(arithmetic);
  const std::int64_t M = state.range(0), N = state.range(1), K = state.range(2), layout = state.range(3);
  const bool ta = layout == 2, tb = layout == 0;
  const Tensor a = bench.normal(ta ? Shape{K, M} : Shape{M, K}),
               b = bench.normal(tb ? Shape{N, K} : Shape{K, N});
  const Tensor c = bench.zeros(DType::f32, {M, N});
  const ops::MatmulOptions options{.a = ta ? ops::Transpose::yes : ops::Transpose::no,
                                   .b = tb ? ops::Transpose::yes : ops::Transpose::no,
                                   .accumulate = ta ? ops::Accumulate::yes : ops::Accumulate::no};
  for (auto _ : state) ops::matmul(bench.ctx(), c, a, b, options);
  rate(state, "GFLOP/s", 2.0 * static_cast<double>(M * N * K));
}

void training_shapes(benchmark::internal::Benchmark* b) {
  b->Args({2048, 2048, 2048, 1});
  for (const auto& [out, in] : {std::pair{kWidth, kWidth}, std::pair{2 * kHidden, kWidth},
                                std::pair{kWidth, kHidden}, std::pair{kVocabulary, kWidth}}) {
    b->Args({kTokens, out, in, 0})->Args({kTokens, in, out, 1})->Args({out, in, kTokens, 2});
  }
}
BENCHMARK_CAPTURE(matmul, fast, Arithmetic::fast)->Apply(training_shapes)->UseRealTime();
BENCHMARK_CAPTURE(matmul, strict, Arithmetic::strict)->Apply(training_shapes)->UseRealTime();

// Rows of x times bf16 weights that exceed every cache.
void decode(benchmark::State& state) {
  Bench bench;
  const std::int64_t rows = state.range(0), N = 4096, K = 4096, matrices = 48;
  const Tensor x = bench.normal({rows, K}), y = bench.zeros(DType::f32, {rows, N});
  const Tensor w = bench.zeros(DType::bf16, {matrices * N, K});
  ops::fill(bench.ctx(), w, 0.5);
  std::int64_t i = 0;
  for (auto _ : state) {
    ops::matmul(bench.ctx(), y, x, rows_of(w, i++ % matrices * N, N), {.b = ops::Transpose::yes});
  }
  rate(state, "GB/s", 2.0 * static_cast<double>(N * K));
}
BENCHMARK(decode)->Arg(1)->Arg(2)->Arg(4)->Arg(8)->MinTime(2)->UseRealTime();

// The floor of `decode`: both threads add up the same memory.
void read_memory(benchmark::State& state) {
  Bench bench;
  const Tensor x = bench.zeros(DType::f32, {std::int64_t{400} << 20}), norm = bench.zeros(DType::f32, {2});
  ops::fill(bench.ctx(), x, 0.5);
  for (auto _ : state) ops::gradient_norm(bench.ctx(), norm, x, 0);
  bandwidth(state, x.count());
}
BENCHMARK(read_memory)->UseRealTime();

struct Attention {
  Bench bench;
  Shape shape{kTokens, kHeads, kHeadWidth};
  ops::AttentionInputs in{bench.normal(shape), bench.normal(shape), bench.normal(shape)};
  Tensor y = bench.zeros(DType::f32, shape), log_sum_exp = bench.zeros(DType::f32, {kTokens, kHeads});
  ops::Segments segments = bench.segments(kTokens, kSequence);
  // Multiply-adds of one product of the causal half, twice.
  double flops = 1.0 * kTokens * kSequence * kHeads * kHeadWidth;
};

void attention_forward(benchmark::State& state) {
  Attention a;
  for (auto _ : state) ops::attention_forward(a.bench.ctx(), a.y, a.log_sum_exp, a.in, a.segments, {});
  rate(state, "GFLOP/s", 2 * a.flops);
}
BENCHMARK(attention_forward)->UseRealTime();

void attention_backward(benchmark::State& state) {
  Attention a;
  ops::attention_forward(a.bench.ctx(), a.y, a.log_sum_exp, a.in, a.segments, {});
  const ops::AttentionGradients grads{a.bench.zeros(DType::f32, a.shape), a.bench.zeros(DType::f32, a.shape),
                                      a.bench.zeros(DType::f32, a.shape)};
  const Tensor dy = a.bench.normal(a.shape);
  for (auto _ : state) {
    ops::attention_backward(a.bench.ctx(), grads, dy, a.in, {a.y, a.log_sum_exp}, a.segments, {});
  }
  rate(state, "GFLOP/s", 5 * a.flops);
}
BENCHMARK(attention_backward)->UseRealTime();

// One token for each of `sequences`, over a cache of 4096 tokens.
void attention_decode(benchmark::State& state) {
  Bench bench;
  const std::int64_t sequences = state.range(0), capacity = 4097;
  const Shape token{sequences, kHeads, kHeadWidth}, cached{sequences, capacity, kHeads, kHeadWidth};
  const ops::AttentionInputs in{bench.normal(token), bench.normal(token), bench.normal(token)};
  const ops::KeyValueCache cache{bench.normal(cached), bench.normal(cached)};
  const Tensor y = bench.zeros(DType::f32, token), lengths = bench.zeros(DType::i32, {sequences});
  for (std::int64_t s = 0; s < sequences; ++s) lengths.as<std::int32_t>()[s] = static_cast<int>(capacity) - 1;
  const ops::Segments segments = bench.segments(sequences, 1);
  for (auto _ : state) ops::attention_cached(bench.ctx(), y, cache, in, segments, lengths, {});
  bandwidth(state, 2 * cache.k.count());
}
BENCHMARK(attention_decode)->Arg(1)->Arg(8)->UseRealTime();

void rms_norm(benchmark::State& state, bool backward) {
  Bench bench;
  const Tensor x = bench.normal({kTokens, kWidth}), dy = bench.normal(x.shape), w = bench.normal({kWidth});
  const Tensor y = bench.zeros(DType::f32, x.shape), r = bench.zeros(DType::f32, {kTokens}),
               dw = bench.normal(w.shape);
  ops::rms_norm_forward(bench.ctx(), y, r, x, w, {});
  for (auto _ : state) {
    if (backward) {
      ops::rms_norm_backward(bench.ctx(), y, dw, dy, {x, w, r}, ops::Accumulate::yes);
    } else {
      ops::rms_norm_forward(bench.ctx(), y, r, x, w, {});
    }
  }
  bandwidth(state, (backward ? 4 : 2) * x.count());
}
BENCHMARK_CAPTURE(rms_norm, forward, false)->UseRealTime();
BENCHMARK_CAPTURE(rms_norm, backward, true)->UseRealTime();

void gated_rms_norm(benchmark::State& state, bool backward) {
  Bench bench;
  const Shape shape{kTokens * kHeads, 2 * kHeadWidth};
  const Tensor x = bench.normal(shape), gate = bench.normal(shape), dy = bench.normal(shape);
  const Tensor w = bench.normal({shape[1]}), dw = bench.normal({shape[1]});
  const Tensor y = bench.zeros(DType::f32, shape), dgate = bench.zeros(DType::f32, shape);
  const Tensor r = bench.zeros(DType::f32, {shape[0]});
  ops::gated_rms_norm_forward(bench.ctx(), y, r, x, gate, w, {});
  for (auto _ : state) {
    if (backward) {
      ops::gated_rms_norm_backward(bench.ctx(), y, dgate, dw, dy, gate, {x, w, r});
    } else {
      ops::gated_rms_norm_forward(bench.ctx(), y, r, x, gate, w, {});
    }
  }
  bandwidth(state, (backward ? 5 : 3) * x.count());
}
BENCHMARK_CAPTURE(gated_rms_norm, forward, false)->UseRealTime();
BENCHMARK_CAPTURE(gated_rms_norm, backward, true)->UseRealTime();

void rotary(benchmark::State& state) {
  Bench bench;
  const Tensor x = bench.normal({kTokens, kHeads, kHeadWidth}), y = bench.zeros(DType::f32, x.shape);
  const ops::RotaryTable table{bench.normal({kSequence, kHeadWidth / 2}),
                               bench.normal({kSequence, kHeadWidth / 2})};
  const Tensor positions = bench.integers(kTokens, kSequence);
  for (auto _ : state) ops::rotary(bench.ctx(), y, x, table, positions, ops::Rotation::forward);
  bandwidth(state, 2 * x.count());
}
BENCHMARK(rotary)->UseRealTime();

void short_convolution(benchmark::State& state, bool backward) {
  Bench bench;
  const Tensor x = bench.normal({kTokens, 4 * kWidth}), w = bench.normal({4 * kWidth, 4}),
               dw = bench.normal(w.shape);
  const Tensor q = bench.normal({kTokens, kWidth}), k = bench.normal({kTokens, kWidth});
  const Tensor v = bench.normal({kTokens, 2 * kWidth}), dx = bench.zeros(DType::f32, x.shape);
  const ops::Segments segments = bench.segments(kTokens, kSequence);
  for (auto _ : state) {
    if (backward) {
      ops::short_convolution_backward(bench.ctx(), dx, dw, {q, k, v}, x, w, segments);
    } else {
      ops::short_convolution_forward(bench.ctx(), {q, k, v}, {}, x, w, segments);
    }
  }
  bandwidth(state, (backward ? 3 : 2) * x.count());
}
BENCHMARK_CAPTURE(short_convolution, forward, false)->UseRealTime();
BENCHMARK_CAPTURE(short_convolution, backward, true)->UseRealTime();

void delta_gates(benchmark::State& state, bool backward) {
  Bench bench;
  const Tensor ab = bench.normal({kTokens, 2 * kHeads}), a_log = bench.normal({kHeads}),
               bias = bench.normal({kHeads});
  const Tensor decay = bench.normal({kTokens, kHeads}), beta = bench.normal({kTokens, kHeads});
  const ops::DeltaGateGradients grads{bench.normal(ab.shape), bench.normal({kHeads}), bench.normal({kHeads})};
  for (auto _ : state) {
    if (backward) {
      ops::delta_gates_backward(bench.ctx(), grads, decay, beta, {ab, a_log, bias}, {});
    } else {
      ops::delta_gates_forward(bench.ctx(), decay, beta, {ab, a_log, bias}, {});
    }
  }
  bandwidth(state, (backward ? 3 : 2) * ab.count());
}
BENCHMARK_CAPTURE(delta_gates, forward, false)->UseRealTime();
BENCHMARK_CAPTURE(delta_gates, backward, true)->UseRealTime();

void swiglu(benchmark::State& state, bool backward) {
  Bench bench;
  const Tensor x = bench.normal({kTokens, 2 * kHidden}), y = bench.normal({kTokens, kHidden});
  const Tensor dx = bench.zeros(DType::f32, x.shape);
  for (auto _ : state) {
    if (backward) {
      ops::swiglu_backward(bench.ctx(), dx, y, x);
    } else {
      ops::swiglu_forward(bench.ctx(), y, x);
    }
  }
  bandwidth(state, (backward ? 5 : 3) * y.count());
}
BENCHMARK_CAPTURE(swiglu, forward, false)->UseRealTime();
BENCHMARK_CAPTURE(swiglu, backward, true)->UseRealTime();

void cross_entropy(benchmark::State& state) {
  Bench bench;
  const Tensor logits = bench.normal({kTokens, kVocabulary}), targets = bench.integers(kTokens, kVocabulary);
  const Tensor loss = bench.zeros(DType::f32, {kTokens}), lse = bench.zeros(DType::f32, {kTokens});
  for (auto _ : state) {
    ops::cross_entropy(bench.ctx(), loss, lse, logits, targets, {}, {.gradient = ops::LossGradient::yes});
  }
  bandwidth(state, 2 * logits.count());
}
BENCHMARK(cross_entropy)->UseRealTime();

void embedding(benchmark::State& state, bool backward) {
  Bench bench;
  const Tensor table = bench.normal({kVocabulary, kWidth}), y = bench.normal({kTokens, kWidth});
  const Tensor ids = bench.integers(kTokens, kVocabulary);
  for (auto _ : state) {
    if (backward) {
      ops::embedding_backward(bench.ctx(), table, y, ids);
    } else {
      ops::embedding_forward(bench.ctx(), y, ids, table);
    }
  }
  bandwidth(state, (backward ? 3 : 2) * y.count());
}
BENCHMARK_CAPTURE(embedding, forward, false)->UseRealTime();
BENCHMARK_CAPTURE(embedding, backward, true)->UseRealTime();

void add(benchmark::State& state) {
  Bench bench;
  const Tensor a = bench.normal({kTokens, kWidth}), b = bench.normal(a.shape);
  for (auto _ : state) ops::add(bench.ctx(), a, a, b);
  bandwidth(state, 3 * a.count());
}
BENCHMARK(add)->UseRealTime();

void adamw(benchmark::State& state) {
  Bench bench;
  const Shape shape{20'000'000};
  const Tensor p = bench.normal(shape), g = bench.normal(shape);
  const Tensor m = bench.zeros(DType::f32, shape), v = bench.zeros(DType::f32, shape);
  const Tensor rates = bench.zeros(DType::f64, {3});
  std::fill_n(rates.as<double>(), 3, 0.1);
  const ops::AdamWPart all{p, m, v, g, {}, 0.1};
  for (auto _ : state) ops::adamw(bench.ctx(), {&all, 1}, {}, rates, {});
  bandwidth(state, 7 * p.count());
}
BENCHMARK(adamw)->UseRealTime();

void gradient_norm(benchmark::State& state) {
  Bench bench;
  const Tensor g = bench.normal({20'000'000}), result = bench.zeros(DType::f32, {2});
  for (auto _ : state) ops::gradient_norm(bench.ctx(), result, g, 1);
  bandwidth(state, g.count());
}
BENCHMARK(gradient_norm)->UseRealTime();

}  // namespace
}  // namespace braid

BENCHMARK_MAIN();

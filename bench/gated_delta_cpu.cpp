// The gated delta rule on the cpu backend against the core's f32 peak. Work is counted as the chunk form with
// chunks of 64 needs it, triangles at half: forward 6 Dk Dv + 128 (Dk + Dv), backward
// 14 Dk Dv + 320 Dv + 384 Dk flops per token and head.
#include <benchmark/benchmark.h>

#include "braid/backends/backends.h"
#include "braid/backends/cpu/targets.h"
#include "braid/core/random.h"
#include "braid/ops/op_table.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/gated_delta_cpu.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

// Flops of 12 independent chains of multiply-adds, in registers.
double multiply_adds(std::int64_t rounds) {
  VecF sums[12];
  unroll<12>([&](auto i) HWY_ATTR { sums[i] = set(static_cast<float>(i)); });
  for (std::int64_t n = 0; n < rounds; ++n) {
    unroll<12>([&](auto i) HWY_ATTR { sums[i] = hn::MulAdd(sums[i], set(0.999f), set(0.001f)); });
  }
  VecF total = zero();
  unroll<12>([&](auto i) HWY_ATTR { total = hn::Add(total, sums[i]); });
  benchmark::DoNotOptimize(sum_lanes(total));
  return 24.0 * static_cast<double>(rounds) * static_cast<double>(lanes());
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {
HWY_EXPORT(multiply_adds);
double peak_work(std::int64_t rounds) { return HWY_DYNAMIC_DISPATCH(multiply_adds)(rounds); }
}  // namespace braid::cpu

namespace braid {
namespace {

struct Sizes {
  std::int64_t heads, dk, dv, tokens, segments;
  int threads;
};

// All tensors of forward and backward, filled once.
class Problem {
 public:
  explicit Problem(const Sizes& s) : sizes_(s), memory_(std::size_t{3} << 30), arena_(memory_) {
    const std::int64_t n = s.tokens * s.segments;
    const Shape key{n, s.heads, s.dk}, value{n, s.heads, s.dv}, gate{n, s.heads};
    const Shape state{s.segments, s.heads, s.dk, s.dv};
    const Tensor offsets = arena_.make(DType::i32, {s.segments + 1});
    for (std::int64_t i = 0; i <= s.segments; ++i) {
      offsets.as<std::int32_t>()[i] = static_cast<std::int32_t>(i * s.tokens);
    }
    segments_ = {offsets};
    in_ = {filled(key, -1, 1), filled(key, -1, 1), filled(value, -1, 1), filled(gate, -0.1, 0),
           filled(gate, 0, 2)};
    dy_ = filled(value, -1, 1);
    y_ = arena_.make(DType::f32, value);
    initial_ = filled(state, -1, 1);
    final_ = arena_.make(DType::f32, state);
    checkpoints_ = arena_.make(DType::f32, ops::gated_delta_checkpoint_shape(in_, segments_));
    grads_ = {arena_.make(DType::f32, key), arena_.make(DType::f32, key), arena_.make(DType::f32, value),
              arena_.make(DType::f32, gate), arena_.make(DType::f32, gate)};
    state_ = cpu::make_state({.threads = s.threads});
    context_ = {.ops = cpu::op_table(), .scratch = &arena_, .state = state_.get()};
  }

  void forward(ops::DeltaMethod method) {
    ops::gated_delta_forward(context_, y_, checkpoints_, {initial_, final_}, in_, segments_,
                             {.method = method});
  }
  void backward() {
    ops::gated_delta_backward(context_, grads_, {}, dy_, in_, {checkpoints_, initial_}, segments_, {});
  }
  void decode() { ops::gated_delta_forward(context_, y_, {}, {initial_, initial_}, in_, segments_, {}); }
  double token_heads() const { return static_cast<double>(sizes_.tokens * sizes_.segments * sizes_.heads); }

 private:
  Tensor filled(const Shape& shape, double low, double high) {
    const Tensor t = arena_.make(DType::f32, shape);
    for (std::int64_t i = 0; i < t.count(); ++i) {
      t.as<float>()[i] = static_cast<float>(low + (high - low) * random_.uniform());
    }
    return t;
  }

  Sizes sizes_;
  Buffer memory_;
  Arena arena_;
  Random random_{1};
  ops::GatedDeltaInputs in_;
  ops::Segments segments_;
  Tensor dy_, y_, initial_, final_, checkpoints_;
  ops::GatedDeltaGradients grads_;
  std::unique_ptr<BackendState> state_;
  Context context_;
};

void peak(benchmark::State& state) {
  const auto cpu_state = cpu::make_state({});
  double flops = 0;
  for (auto _ : state) flops += cpu::peak_work(100000);
  state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsRate);
}
BENCHMARK(peak)->UseRealTime();

// Arguments: Dk, Dv, tokens per segment, segments, threads. Six heads.
Sizes sizes_of(const benchmark::State& state) {
  return {
      6, state.range(0), state.range(1), state.range(2), state.range(3), static_cast<int>(state.range(4))};
}
double forward_flops(const Sizes& s) { return static_cast<double>(6 * s.dk * s.dv + 128 * (s.dk + s.dv)); }
double backward_flops(const Sizes& s) {
  return static_cast<double>(14 * s.dk * s.dv + 320 * s.dv + 384 * s.dk);
}

template <class Step>
void measure(benchmark::State& state, double flops_per_token_head, Step&& step) {
  Problem problem(sizes_of(state));
  step(problem);
  for (auto _ : state) step(problem);
  const double done = problem.token_heads() * static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] =
      benchmark::Counter(done * flops_per_token_head * 1e-9, benchmark::Counter::kIsRate);
  state.counters["token_heads/s"] = benchmark::Counter(done, benchmark::Counter::kIsRate);
}

void forward_chunked(benchmark::State& state) {
  measure(state, forward_flops(sizes_of(state)), [](Problem& p) { p.forward(ops::DeltaMethod::chunked); });
}
void forward_recurrent(benchmark::State& state) {
  measure(state, forward_flops(sizes_of(state)), [](Problem& p) { p.forward(ops::DeltaMethod::recurrent); });
}
void backward(benchmark::State& state) {
  measure(state, backward_flops(sizes_of(state)), [](Problem& p) { p.backward(); });
}
void forward_backward(benchmark::State& state) {
  const Sizes s = sizes_of(state);
  measure(state, forward_flops(s) + backward_flops(s), [](Problem& p) {
    p.forward(ops::DeltaMethod::chunked);
    p.backward();
  });
}

void training_shapes(benchmark::internal::Benchmark* b) {
  for (const int threads : {1, 2}) {
    for (const std::int64_t dk : {32, 48, 64, 96, 128}) b->Args({dk, 2 * dk, 512, 4, threads});
    b->Args({64, 64, 512, 4, threads});
  }
  b->UseRealTime();
}
BENCHMARK(forward_chunked)->Apply(training_shapes);
BENCHMARK(forward_recurrent)->Apply(training_shapes);
BENCHMARK(backward)->Apply(training_shapes);
BENCHMARK(forward_backward)->Apply(training_shapes);

// Where the recurrence gives way to chunks.
void short_shapes(benchmark::internal::Benchmark* b) {
  for (const std::int64_t tokens : {2, 4, 8, 12, 16, 24, 32, 48, 64}) {
    for (const std::int64_t dk : {48, 64, 96}) b->Args({dk, 2 * dk, tokens, 2048 / tokens, 1});
  }
  b->UseRealTime();
}
BENCHMARK(forward_chunked)->Name("short_chunked")->Apply(short_shapes);
BENCHMARK(forward_recurrent)->Name("short_recurrent")->Apply(short_shapes);

// One token for each of many sequences, the states in place: bytes are those of the states, read and written.
void decode(benchmark::State& state) {
  const Sizes s = sizes_of(state);
  Problem problem(s);
  for (auto _ : state) problem.decode();
  const double done = problem.token_heads() * static_cast<double>(state.iterations());
  state.counters["GB/s"] =
      benchmark::Counter(done * 8e-9 * static_cast<double>(s.dk * s.dv), benchmark::Counter::kIsRate);
  state.counters["token_heads/s"] = benchmark::Counter(done, benchmark::Counter::kIsRate);
}
void decode_shapes(benchmark::internal::Benchmark* b) {
  for (const int threads : {1, 2}) {
    for (const std::int64_t sequences : {1, 32, 1024}) {
      for (const std::int64_t dk : {48, 64, 96}) b->Args({dk, 2 * dk, 1, sequences, threads});
    }
  }
  b->UseRealTime();
}
BENCHMARK(decode)->Apply(decode_shapes);

}  // namespace
}  // namespace braid

BENCHMARK_MAIN();
#endif

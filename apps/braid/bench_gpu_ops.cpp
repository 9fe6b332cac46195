// Every op alone, and the ceilings that all is compared with.
#include "bench_gpu.h"

namespace braid::app::gpu_bench {
namespace {

// Tensors and scratch for single ops.
class OpBench {
 public:
  OpBench(const Backend& backend, const Ceilings& ceilings, Filler& filler)
      : backend_(backend), ceilings_(ceilings), filler_(filler) {}

  Tensor make(DType dtype, const Shape& shape, double deviation = 1) {
    Tensor t;
    t.dtype = dtype;
    t.shape = shape;
    t.device = backend_.device;
    buffers_.emplace_back(t.bytes(), backend_.memory);
    t.data = buffers_.back().data();
    if (deviation != 0) filler_.normal(t, deviation);
    return t;
  }
  Tensor integers(const std::vector<std::int32_t>& values) {
    const Tensor t = make(DType::i32, {static_cast<std::int64_t>(values.size())}, 0);
    backend_.memory->write(t.mutable_data(), values.data(), t.bytes());
    return t;
  }
  void write(const Tensor& t, const void* values) {
    backend_.memory->write(t.mutable_data(), values, t.bytes());
  }
  ops::Segments segments(std::int64_t count, std::int64_t length) {
    return {integers(model::RowLayout::of(count, length).offsets), length};
  }
  // `bytes` that must be moved and `flops` that must be done at least, for the fractions.
  template <class Fn>
  double time(const std::string& name, double bytes, double flops, Fn&& fn) {
    const Buffer memory(measure_scratch(backend_, fn), backend_.memory);
    Arena scratch(memory);
    Context ctx = backend_.context(scratch);
    const double seconds = mean_seconds(backend_, 0.05, [&] { fn(ctx); });
    fmt::print("{:<44}{:>10.1f} us{:>9.1f} TFLOP/s{:>6.0f}%{:>9.3f} TB/s{:>6.0f}%\n", name, 1e6 * seconds,
               flops / seconds / 1e12, 100 * flops / seconds / ceilings_.flops, bytes / seconds / 1e12,
               100 * bytes / seconds / ceilings_.bandwidth);
    std::fflush(stdout);
    return seconds;
  }
  void forget() { buffers_.clear(); }

 private:
  const Backend& backend_;
  const Ceilings& ceilings_;
  Filler& filler_;
  std::vector<Buffer> buffers_;
};

void bench_products(OpBench& bench, std::int64_t n, const model::ModelConfig& c) {
  const auto product = [&](const char* what, std::int64_t out, std::int64_t in) {
    const auto x = bench.make(DType::bf16, {n, in}), w = bench.make(DType::bf16, {out, in}, 0.02),
               y = bench.make(DType::bf16, {n, out}), dx = bench.make(DType::bf16, {n, in}, 0);
    const auto dw = bench.make(DType::f32, {out, in}, 0);
    const double flops = 2.0 * static_cast<double>(n * out * in);
    const double bytes = 2.0 * static_cast<double>(n * in + out * in + n * out);
    bench.time(fmt::format("{} product {} -> {}", what, in, out), bytes, flops,
               [&](Context& ctx) { ops::matmul(ctx, y, x, w, {.b = ops::Transpose::yes}); });
    bench.time("  its input gradient", bytes, flops, [&](Context& ctx) { ops::matmul(ctx, dx, y, w, {}); });
    bench.time("  its weight gradient, added in f32", bytes + 6.0 * static_cast<double>(out * in), flops,
               [&](Context& ctx) {
                 ops::matmul(ctx, dw, y, x, {.a = ops::Transpose::yes, .accumulate = ops::Accumulate::yes});
               });
    bench.forget();
  };
  product("square", c.hidden_size, c.hidden_size);
  product("gate and up", 2 * c.intermediate_size, c.hidden_size);
  product("down", c.hidden_size, c.intermediate_size);
  for (const std::int64_t rows : {1, 16}) {
    for (const auto out : {2 * c.intermediate_size, c.vocabulary_size}) {
      const auto in = c.hidden_size;
      const auto x = bench.make(DType::bf16, {rows, in}), w = bench.make(DType::bf16, {out, in}, 0.02),
                 y = bench.make(DType::bf16, {rows, out}, 0);
      bench.time(fmt::format("{} row(s) {} -> {}", rows, in, out), 2.0 * static_cast<double>(out * in),
                 2.0 * static_cast<double>(rows * out * in),
                 [&](Context& ctx) { ops::matmul(ctx, y, x, w, {.b = ops::Transpose::yes}); });
      bench.forget();
    }
  }
}

void bench_passes(OpBench& bench, std::int64_t n, const model::ModelConfig& c) {
  const auto b = DType::bf16, f = DType::f32;
  const auto mib = [](std::initializer_list<ConstTensor> tensors) {
    double bytes = 0;
    for (const auto& t : tensors) bytes += static_cast<double>(t.bytes());
    return bytes;
  };
  {
    const auto x = bench.make(b, {n, c.hidden_size}), y = bench.make(b, x.shape, 0),
               w = bench.make(f, {c.hidden_size}), inverse = bench.make(f, {n}),
               dw = bench.make(f, {c.hidden_size}, 0), dx = bench.make(b, x.shape, 0);
    bench.time("RMSNorm forward", mib({x, y}), 0,
               [&](Context& ctx) { ops::rms_norm_forward(ctx, y, inverse, x, w, {}); });
    bench.time("RMSNorm backward", mib({x, y, dx}), 0, [&](Context& ctx) {
      ops::rms_norm_backward(ctx, dx, dw, y, {x, w, inverse}, ops::Accumulate::no);
    });
    bench.time("residual add", mib({x, y, dx}), 0, [&](Context& ctx) { ops::add(ctx, dx, x, y); });
  }
  bench.forget();
  {
    const auto h = c.linear.value_heads, d = c.linear.value_dim;
    const auto x = bench.make(b, {n * h, d}), gate = bench.make(b, x.shape), y = bench.make(b, x.shape, 0),
               w = bench.make(f, {d}), inverse = bench.make(f, {n * h}), dw = bench.make(f, {d}, 0),
               dx = bench.make(b, x.shape, 0), dgate = bench.make(b, x.shape, 0);
    bench.time("gated RMSNorm forward", mib({x, gate, y}), 0,
               [&](Context& ctx) { ops::gated_rms_norm_forward(ctx, y, inverse, x, gate, w, {}); });
    bench.time("gated RMSNorm backward", mib({x, gate, y, dx, dgate}), 0, [&](Context& ctx) {
      ops::gated_rms_norm_backward(ctx, dx, dgate, dw, y, gate, {x, w, inverse});
    });
  }
  bench.forget();
  {
    const auto gate_up = bench.make(b, {n, 2 * c.intermediate_size}),
               y = bench.make(b, {n, c.intermediate_size}), d = bench.make(b, gate_up.shape, 0);
    bench.time("SwiGLU forward", mib({gate_up, y}), 0,
               [&](Context& ctx) { ops::swiglu_forward(ctx, y, gate_up); });
    bench.time("SwiGLU backward", mib({gate_up, y, d}), 0,
               [&](Context& ctx) { ops::swiglu_backward(ctx, d, y, gate_up); });
  }
  bench.forget();
  {
    const auto keys = c.linear.key_heads * c.linear.key_dim,
               values = c.linear.value_heads * c.linear.value_dim;
    const auto channels = 2 * keys + values;
    const auto x = bench.make(b, {n, channels}), q = bench.make(b, {n, keys}), k = bench.make(b, {n, keys}),
               v = bench.make(b, {n, values}), dx = bench.make(b, x.shape, 0);
    const auto w = bench.make(f, {channels, c.linear.convolution_width}), dw = bench.make(f, w.shape, 0);
    const auto segments = bench.segments(1, n);
    bench.time("short convolution forward", mib({x, x}), 0, [&](Context& ctx) {
      ops::short_convolution_forward(ctx, {q, k, v}, {}, x, w, segments);
    });
    bench.time("short convolution backward", mib({x, x, x}), 0, [&](Context& ctx) {
      ops::short_convolution_backward(ctx, dx, dw, {q, k, v}, x, w, segments);
    });
  }
  bench.forget();
  {
    const std::int64_t rows = 2048;
    const auto logits = bench.make(b, {rows, c.vocabulary_size}), loss = bench.make(f, {rows}),
               lse = bench.make(f, {rows});
    const auto targets = bench.integers(std::vector<std::int32_t>(static_cast<std::size_t>(rows), 7));
    bench.time("cross entropy with gradient, 2048 rows", 2 * mib({logits}), 0, [&](Context& ctx) {
      ops::cross_entropy(ctx, loss, lse, logits, targets, {},
                         {.z_loss = 1e-5, .gradient = ops::LossGradient::yes});
    });
  }
  bench.forget();
  {
    const Shape shape{std::int64_t{1} << 29};
    const auto p = bench.make(f, shape), m = bench.make(f, shape, 0), v = bench.make(f, shape, 0),
               g = bench.make(f, shape), copy = bench.make(b, shape, 0), norm = bench.make(f, {2}, 0),
               rates = bench.make(DType::f64, {3}, 0);
    const std::array numbers{3e-4, 0.1, 0.05};
    bench.write(rates, numbers.data());
    bench.time("AdamW with bf16 copy, 0.5 G parameters", 2 * mib({p, m, v}) + mib({g, copy}), 0,
               [&](Context& ctx) {
                 const ops::AdamWPart all{p, m, v, g, copy, 0.1};
                 ops::adamw(ctx, {&all, 1}, {}, rates, {});
               });
    bench.time("gradient norm, 0.5 G", mib({g}), 0,
               [&](Context& ctx) { ops::gradient_norm(ctx, norm, g, 1); });
  }
  bench.forget();
}

void bench_attention(OpBench& bench, std::int64_t n, const model::ModelConfig& c) {
  const auto b = DType::bf16, f = DType::f32;
  const auto& a = c.attention;
  const auto q = bench.make(b, {n, a.heads, a.head_dim}), k = bench.make(b, {n, a.kv_heads, a.head_dim}),
             v = bench.make(b, k.shape), y = bench.make(b, q.shape, 0), lse = bench.make(f, {n, a.heads}, 0);
  const auto dq = bench.make(b, q.shape, 0), dk = bench.make(b, k.shape, 0), dv = bench.make(b, k.shape, 0);
  const auto segments = bench.segments(1, n);
  const double flops =
      2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(a.heads * a.head_dim);
  const double bytes = static_cast<double>(2 * q.bytes() + 2 * k.bytes());
  bench.time(fmt::format("attention forward, {} tokens", n), bytes, flops, [&](Context& ctx) {
    ops::attention_forward(ctx, y, lse, {q, k, v}, segments, {});
  });
  bench.time("attention backward, deterministic", 2 * bytes, 2.5 * flops, [&](Context& ctx) {
    ops::attention_backward(ctx, {dq, dk, dv}, y, {q, k, v}, {y, lse}, segments, {});
  });
  bench.forget();
}

// Compulsory bytes and FLOPs per token and head: gdn_kernel notes' counts for chunks of 64.
void bench_delta(OpBench& bench, const model::ModelConfig& c, std::int64_t n) {
  const auto b = DType::bf16, f = DType::f32;
  const auto h = c.linear.value_heads, dk = c.linear.key_dim, dv = c.linear.value_dim;
  const auto q = bench.make(b, {n, h, dk}), k = bench.make(b, {n, h, dk}), v = bench.make(b, {n, h, dv}),
             y = bench.make(b, v.shape), dq = bench.make(b, q.shape, 0), dk_ = bench.make(b, k.shape, 0),
             dv_ = bench.make(b, v.shape, 0);
  const auto decay = bench.make(f, {n, h}, 0), beta = bench.make(f, {n, h}, 0),
             ddecay = bench.make(f, {n, h}, 0), dbeta = bench.make(f, {n, h}, 0),
             ab = bench.make(f, {n, 2 * h}), a_log = bench.make(f, {h}), bias = bench.make(f, {h});
  const auto segments = bench.segments(1, n);
  const ops::GatedDeltaInputs in{q, k, v, decay, beta};
  const auto checkpoints = bench.make(b, ops::gated_delta_checkpoint_shape(in, segments), 0);
  bench.time(fmt::format("delta gates, {} tokens", n), static_cast<double>(ab.bytes() + 2 * decay.bytes()), 0,
             [&](Context& ctx) {
               ops::delta_gates_forward(ctx, decay, beta, {ab, a_log, bias}, {});
             });
  const auto per = static_cast<double>(n * h);
  const double bytes = 2.0 * static_cast<double>(2 * dk + 2 * dv) + 8;
  const double state = static_cast<double>(dk * dv), both = static_cast<double>(dk + dv) * 64;
  const double forward = 6 * state + 2 * 64.0 * static_cast<double>(dv) + 6 * 64.0 * static_cast<double>(dk);
  const double t =
      bench.time(fmt::format("delta rule forward, {} tokens", n), per * bytes, per * forward,
                 [&](Context& ctx) { ops::gated_delta_forward(ctx, y, checkpoints, {}, in, segments, {}); });
  const double back = bench.time("delta rule backward", 1.67 * per * bytes, per * (14 * state + 12 * both),
                                 [&](Context& ctx) {
                                   ops::gated_delta_backward(ctx, {dq, dk_, dv_, ddecay, dbeta}, {}, y, in,
                                                             {checkpoints, {}}, segments, {});
                                 });
  fmt::print("  forward + backward {:>34.3f} ms\n", 1e3 * (t + back));
  bench.forget();
}

void bench_delta_step(OpBench& bench, const model::ModelConfig& c, std::int64_t sequences) {
  const auto b = DType::bf16, f = DType::f32;
  const auto n = sequences, h = c.linear.value_heads, dk = c.linear.key_dim, dv = c.linear.value_dim;
  const auto q = bench.make(b, {n, h, dk}), k = bench.make(b, {n, h, dk}), v = bench.make(b, {n, h, dv}),
             y = bench.make(b, v.shape, 0);
  const auto decay = bench.make(f, {n, h}, 0), beta = bench.make(f, {n, h}, 0),
             state = bench.make(f, {n, h, dk, dv}, 0.01);
  const auto segments = bench.segments(n, 1);
  bench.time(fmt::format("delta rule decode step, {} sequence(s)", n),
             2.0 * static_cast<double>(state.bytes()), 0, [&](Context& ctx) {
               ops::gated_delta_forward(ctx, y, {}, {state, state}, {q, k, v, decay, beta}, segments, {});
             });
  bench.forget();
}

void bench_sampling(OpBench& bench, const model::ModelConfig& c, std::int64_t sequences) {
  const auto column = [&](DType dtype, std::int64_t value) {
    const std::vector<std::int64_t> integers(static_cast<std::size_t>(sequences), value);
    const std::vector<double> doubles(integers.size(), static_cast<double>(value) / 1000);
    const Tensor t = bench.make(dtype, {sequences}, 0);
    bench.write(t, dtype == DType::i64 ? static_cast<const void*>(integers.data()) : doubles.data());
    return t;
  };
  const auto logits = bench.make(DType::f32, {sequences, c.vocabulary_size}, 3);
  const auto ids = bench.make(DType::i32, {sequences}, 0), seen = bench.make(DType::i32, {1}, 0);
  const auto segments = bench.segments(sequences, 0);
  const auto one = column(DType::f64, 1000), none = column(DType::f64, 0);
  const auto time = [&](const char* how, std::int64_t temperature, std::int64_t k, std::int64_t p) {
    const ops::SamplingInputs in{.logits = logits,
                                 .uniform = column(DType::f64, 700),
                                 .temperature = column(DType::f64, temperature),
                                 .top_k = column(DType::i64, k),
                                 .top_p = column(DType::f64, p),
                                 .min_p = none,
                                 .repetition_penalty = one,
                                 .seen = seen,
                                 .seen_segments = segments};
    bench.time(fmt::format("sampling, {}, {} sequence(s)", how, sequences),
               static_cast<double>(logits.bytes()), 0,
               [&](Context& ctx) { ops::sampling(ctx, ids, in, {}); });
  };
  time("greedy", 0, 0, 1000);
  time("temperature", 1000, 0, 1000);
  time("top-k 50, top-p 0.9", 1000, 50, 900);
  bench.forget();
}

}  // namespace

Ceilings measure_ceilings(const Backend& backend, Filler& filler) {
  Ceilings c{1, 1};
  OpBench bench(backend, c, filler);
  constexpr std::int64_t n = 8192, words = std::int64_t{1} << 31;
  const auto a = bench.make(DType::bf16, {n, n}), b = bench.make(DType::bf16, {n, n}),
             y = bench.make(DType::bf16, {n, n}, 0);
  const double product = 2.0 * n * n * n;
  const Buffer memory(
      measure_scratch(backend, [&](Context& ctx) { ops::matmul(ctx, y, a, b, {.b = ops::Transpose::yes}); }),
      backend.memory);
  Arena scratch(memory);
  Context ctx = backend.context(scratch);
  c.flops =
      product / mean_seconds(backend, 0.3, [&] { ops::matmul(ctx, y, a, b, {.b = ops::Transpose::yes}); });
  const auto from = bench.make(DType::bf16, {words}), to = bench.make(DType::bf16, {words}, 0);
  c.bandwidth = 4.0 * words / mean_seconds(backend, 0.3, [&] { ops::copy(ctx, to, from); });
  fmt::print(
      "ceilings: {:.0f} TFLOP/s (bf16 product, 8192 cubed), {:.2f} TB/s (copy of 4 GiB, read + written)\n",
      c.flops / 1e12, c.bandwidth / 1e12);
  return c;
}

void bench_ops(const Backend& backend, const Ceilings& ceilings, Filler& filler, const Options& o,
               const model::ModelConfig& c) {
  OpBench bench(backend, ceilings, filler);
  const auto n = o.batch_size * o.length;
  bench_products(bench, n, c);
  bench_passes(bench, n, c);
  if (c.has_attention()) bench_attention(bench, o.length, c);
  for (const std::int64_t sequences : {1, 16}) bench_sampling(bench, c, sequences);
  if (!c.has_linear()) return;
  for (const std::int64_t tokens : {o.length, std::int64_t{65536}}) bench_delta(bench, c, tokens);
  for (const std::int64_t sequences : {1, 256}) bench_delta_step(bench, c, sequences);
}

}  // namespace braid::app::gpu_bench

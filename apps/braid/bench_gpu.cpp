// braid bench gpu: every op at the 7B's shapes, training, prefill and decode, beside ceilings measured in the
// same run.
#include <chrono>
#include <map>

#include "braid/core/random.h"
#include "braid/model/counts.h"
#include "braid/model/presets.h"
#include "braid/model/session.h"
#include "braid/ops/op_table.h"
#include "braid/train/trainer.h"
#include "command.h"
#include "memory_text.h"
#include "profile.h"

namespace braid::app {
namespace {

struct Options {
  std::string model = "olmo-hybrid-7b";
  std::vector<std::string> parts{"ops", "gradients", "prefill", "decode", "step"};
  std::int64_t batch_size = 1, length = 8192, steps = 3, context = 1024, decode_tokens = 64;
  std::string recompute = "none";
  bool by_op = false;
};

struct Ceilings {
  double flops = 0, bandwidth = 0;
};

void synchronize(const Backend& backend) { backend.memory->read(nullptr, nullptr, 0); }

// Mean seconds of one call among as many as fill `budget` seconds, after two that warm up.
template <class Fn>
double mean_seconds(const Backend& backend, double budget, Fn&& fn) {
  using Clock = std::chrono::steady_clock;
  const auto timed = [&](std::int64_t calls) {
    const auto begin = Clock::now();
    for (std::int64_t i = 0; i < calls; ++i) fn();
    synchronize(backend);
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  timed(1);
  const double once = timed(1);
  const auto calls = std::clamp<std::int64_t>(static_cast<std::int64_t>(budget / once), 1, 2000);
  return timed(calls) / static_cast<double>(calls);
}

// Fills device memory with copies of one random block: uniform, with that standard deviation.
class Filler {
 public:
  explicit Filler(const Backend& backend) : backend_(backend) {
    Random random(1);
    for (auto& x : block_) x = static_cast<float>((random.uniform() - 0.5) * std::sqrt(12.0));
  }
  void normal(const Tensor& t, double deviation) {
    Buffer host(std::min(t.bytes(), block_.size() * size_of(t.dtype)));
    const auto count = host.bytes() / size_of(t.dtype);
    for (std::size_t i = 0; i < count; ++i) {
      const auto x = static_cast<float>(block_[i] * deviation);
      if (t.dtype == DType::bf16) reinterpret_cast<BFloat16*>(host.data())[i] = BFloat16(x);
      if (t.dtype == DType::f32) reinterpret_cast<float*>(host.data())[i] = x;
    }
    auto* to = static_cast<std::byte*>(t.mutable_data());
    for (std::size_t done = 0; done < t.bytes(); done += host.bytes()) {
      backend_.memory->write(to + done, host.data(), std::min(host.bytes(), t.bytes() - done));
    }
  }
  // Weights that train: norms at one, gates as they begin, everything else small.
  void weights(const model::Parameters& p, const model::ModelConfig& config) {
    for (const auto& [spec, t] : model::list(p, config)) {
      switch (spec.initializer) {
        case nn::Initializer::ones:
        case nn::Initializer::dt_bias:
        case nn::Initializer::a_log: {
          const float value = spec.initializer == nn::Initializer::ones    ? 1
                              : spec.initializer == nn::Initializer::a_log ? 2
                                                                           : -4;
          const std::vector<float> values(static_cast<std::size_t>(t.count()), value);
          backend_.memory->write(t.mutable_data(), values.data(), t.bytes());
          break;
        }
        default:
          normal(t, 0.02);
      }
    }
  }

 private:
  const Backend& backend_;
  std::vector<float> block_ = std::vector<float>(std::size_t{1} << 22);
};

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
               g = bench.make(f, shape), copy = bench.make(b, shape, 0), norm = bench.make(f, {2}, 0);
    bench.time("AdamW with bf16 copy, 0.5 G parameters", 2 * mib({p, m, v}) + mib({g, copy}), 0,
               [&](Context& ctx) {
                 ops::adamw(ctx, {p, m, v, copy}, g, {}, {});
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

model::KeepPlan keep_of(const Options& o) {
  const std::map<std::string, nn::Keep> levels{{"none", nn::Keep::all},
                                               {"delta", nn::Keep::products},
                                               {"cheap", nn::Keep::mixers},
                                               {"block", nn::Keep::input}};
  return model::KeepPlan::all_blocks(levels.at(o.recompute));
}

struct RandomTokens {
  explicit RandomTokens(std::int64_t count, std::int64_t vocabulary) {
    Random random(7);
    for (std::int64_t i = 0; i < count; ++i) {
      ids.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocabulary))));
    }
  }
  std::vector<std::int32_t> ids;
};

void report(const std::string& what, double tokens, double seconds, double flops_per_token,
            const Ceilings& c) {
  fmt::print("{:<44}{:>10.1f} ms{:>12.0f} tokens/s{:>9.1f} TFLOP/s{:>6.1f}%\n", what, 1e3 * seconds,
             tokens / seconds, flops_per_token * tokens / seconds / 1e12,
             100 * flops_per_token * tokens / seconds / c.flops);
  std::fflush(stdout);
}

// bf16 weights, f32 gradients, no optimiser.
void bench_gradients(const Backend& made, const Ceilings& ceilings, Filler& filler, const Options& o,
                     const model::ModelConfig& c) {
  const Backend backend = o.by_op ? profiled(made) : made;
  const model::ParameterSet weights(c, {.matrix = DType::bf16}, backend.memory),
      gradients(c, {}, backend.memory);
  filler.weights(weights.tree(), c);
  const auto layout = model::RowLayout::of(o.batch_size, o.length);
  const RandomTokens tokens(o.batch_size * o.length, c.vocabulary_size);
  const auto work = [&](Context& ctx, Arena& step) {
    const auto policy = model::make_policy(ctx, step, c, o.length, DType::bf16);
    const auto batch =
        model::HostBatch{tokens.ids, tokens.ids, layout.positions, layout.offsets}.upload(ctx, step);
    const model::TokenLosses losses{step.make(DType::f32, batch.ids.shape),
                                    step.make(DType::f32, batch.ids.shape)};
    model::loss_and_gradients(ctx, step, losses, gradients.tree(), weights.tree(), policy, batch,
                              {.scale = 1e-4, .keep = keep_of(o)});
  };
  model::WorkMemory memory(backend, work);
  fmt::print("forward + backward: weights {:.1f} GiB, gradients {:.1f}, step {:.1f}, scratch {:.1f}\n",
             static_cast<double>(weights.bytes()) / (1 << 30),
             static_cast<double>(gradients.bytes()) / (1 << 30),
             static_cast<double>(memory.step_bytes()) / (1 << 30),
             static_cast<double>(memory.scratch_bytes()) / (1 << 30));
  std::fflush(stdout);
  memory.run(backend, work);
  if (o.by_op) reset_op_times(backend);
  const double seconds = mean_seconds(made, 0, [&] { memory.run(backend, work); });
  if (o.by_op) {
    for (const auto& t : op_times(backend)) {
      fmt::print("    {:<42}{:>9.2f} ms{:>7} calls\n", t.name, 1e3 * t.seconds / 3, t.calls / 3);
    }
  }
  report(fmt::format("forward + backward, {} x {}, recompute {}", o.batch_size, o.length, o.recompute),
         static_cast<double>(o.batch_size * o.length), seconds, model::training_flops(c, o.length), ceilings);
}

train::RunConfig step_config(const Options& o, const model::ModelConfig& c, std::int64_t batch) {
  train::RunConfig config;
  config.model = c;
  config.data.sequence_length = o.length;
  config.batch_size = config.micro_batch_size = batch;
  config.steps = 1000;
  config.recompute = train::Recompute::automatic;
  return config;
}

// Batch 0 of --batch: the largest that fits.
std::int64_t step_batch(const Backend& backend, const Options& o, const model::ModelConfig& c) {
  if (o.batch_size != 0) return o.batch_size;
  const auto config = step_config(o, c, 1);
  const auto largest = train::Trainer(backend, config).largest_micro_batch(4096);
  fmt::print("largest batch of {} tokens: {}\n", o.length, largest);
  return largest;
}

data::Batch random_batch(std::int64_t sequences, std::int64_t length, std::int64_t vocabulary) {
  const auto layout = model::RowLayout::of(sequences, length);
  data::Batch batch{.instances = sequences,
                    .sequence_length = length,
                    .ids = RandomTokens(sequences * length, vocabulary).ids,
                    .targets = RandomTokens(sequences * length, vocabulary).ids,
                    .positions = layout.positions,
                    .segment_offsets = layout.offsets,
                    .predicted = sequences * (length - 1)};
  for (std::size_t i = static_cast<std::size_t>(length) - 1; i < batch.targets.size();
       i += static_cast<std::size_t>(length)) {
    batch.targets[i] = -1;
  }
  return batch;
}

void bench_step(const Backend& backend, const Ceilings& ceilings, Filler& filler, const Options& o,
                const model::ModelConfig& c) {
  const auto size = step_batch(backend, o, c);
  const auto config = step_config(o, c, size);
  train::Trainer trainer(backend, config);
  fmt::print("{}\n", memory_text(trainer.memory_plan()));
  std::fflush(stdout);
  filler.weights(trainer.parameters().tree(), c);
  trainer.parameters_changed();
  const auto batch = random_batch(size, o.length, c.vocabulary_size);
  std::int64_t step = 0;
  train::StepResult last;
  const double seconds = mean_seconds(backend, 1.0, [&] { last = trainer.step(batch, ++step); });
  report(fmt::format("training step with AdamW, {} x {}, recompute auto", size, o.length),
         static_cast<double>(size * o.length), seconds, model::training_flops(c, o.length), ceilings);
  fmt::print(
      "  loss {:.3f}, gradient norm {:.3f} after {} steps; peak step {} and scratch {} of the planned {} and "
      "{} bytes\n",
      last.loss, last.gradient_norm, step, trainer.work().step_peak(), trainer.work().scratch_peak(),
      trainer.work().step_bytes(), trainer.work().scratch_bytes());
}

void bench_inference(const Backend& backend, const Ceilings& ceilings, Filler& filler, const Options& o,
                     const model::ModelConfig& c) {
  const model::ParameterSet weights(c, {.matrix = DType::bf16}, backend.memory);
  filler.weights(weights.tree(), c);
  const auto wanted = [&](std::string_view part) {
    return std::ranges::find(o.parts, part) != o.parts.end();
  };
  if (wanted("prefill")) {
    const RandomTokens tokens(o.length, c.vocabulary_size);
    for (const std::int64_t parts : {1, 4}) {
      const std::int64_t part = (o.length + parts - 1) / parts;
      model::Session session(backend, c, weights.tree(),
                             {.sequences = 1, .capacity = o.length, .max_tokens = part});
      const double seconds = mean_seconds(backend, 1.0, [&] {
        session.reset(0);
        for (std::int64_t begin = 0; begin < o.length; begin += part) {
          const auto at = tokens.ids.begin();
          session.extend({{at + begin, at + std::min(begin + part, o.length)}});
        }
      });
      report(fmt::format("prefill, {} tokens in {} call(s)", o.length, parts), static_cast<double>(o.length),
             seconds, model::forward_flops(c, o.length, model::DeltaForm::chunked), ceilings);
    }
  }
  if (!wanted("decode")) return;
  std::int64_t parameter_bytes = 0;
  for (const auto& [spec, t] : model::list(weights.tree(), c)) {
    if (spec.role != nn::ParameterRole::embedding) parameter_bytes += static_cast<std::int64_t>(t.bytes());
  }
  for (const std::int64_t sequences : {1, 16}) {
    model::Session session(
        backend, c, weights.tree(),
        {.sequences = sequences, .capacity = o.context + 4 * o.decode_tokens + 8, .max_tokens = 1024});
    const RandomTokens prompt(std::min<std::int64_t>(o.context, 1024), c.vocabulary_size);
    for (std::int64_t s = 0; s < sequences; ++s) {
      std::vector<std::vector<std::int32_t>> tokens(static_cast<std::size_t>(sequences));
      tokens[static_cast<std::size_t>(s)] = prompt.ids;
      session.extend(tokens);
    }
    const std::vector<std::vector<std::int32_t>> one(static_cast<std::size_t>(sequences), {5});
    session.extend(one);
    session.extend(one);
    std::int64_t left = 3 * o.decode_tokens;
    const double seconds =
        mean_seconds(backend, 0,
                     [&] {
                       for (std::int64_t i = 0; i < o.decode_tokens && left > 0; ++i, --left)
                         session.extend(one);
                     }) /
        static_cast<double>(o.decode_tokens);
    std::int64_t state = 0;
    for (const auto type : c.layers) {
      const auto bytes = model::state_bytes(c, type, o.context, DType::bf16);
      state += bytes.keys_values + 2 * (bytes.delta + bytes.convolution);
    }
    const double bytes = static_cast<double>(parameter_bytes + sequences * state);
    fmt::print("{:<44}{:>10.3f} ms{:>12.1f} tokens/s{:>9.2f} TB/s{:>6.1f}%\n",
               fmt::format("decode, {} sequence(s), context {}", sequences, o.context), 1e3 * seconds,
               static_cast<double>(sequences) / seconds, bytes / seconds / 1e12,
               100 * bytes / seconds / ceilings.bandwidth);
    std::fflush(stdout);
  }
}

void run(const Options& o) {
  const auto config = model::preset(o.model);
  require(config.has_value(), "--model '{}' is no preset: 'braid inspect --list' prints them", o.model);
  require(o.batch_size > 0 || o.parts == std::vector<std::string>{"step"},
          "--batch 0 goes with --parts step alone");
  const Backend backend = make_backend("cuda");
  fmt::print("{}; {}\n", backend.description, o.model);
  Filler filler(backend);
  const auto ceilings = measure_ceilings(backend, filler);
  for (const auto& part : o.parts) {
    if (part == "ops") bench_ops(backend, ceilings, filler, o, *config);
    if (part == "gradients") bench_gradients(backend, ceilings, filler, o, *config);
    if (part == "step") bench_step(backend, ceilings, filler, o, *config);
  }
  bench_inference(backend, ceilings, filler, o, *config);
}

}  // namespace

void add_gpu_bench(CLI::App& bench) {
  auto* gpu = bench.add_subcommand("gpu", "every op, training, prefill and decode on one GPU");
  auto o = std::make_shared<Options>();
  gpu->add_option("--model", o->model, "preset whose shapes are timed")->capture_default_str();
  gpu->add_option("--parts", o->parts, "of ops, gradients, step, prefill, decode")
      ->delimiter(',')
      ->check(CLI::IsMember({"ops", "gradients", "step", "prefill", "decode"}))
      ->capture_default_str();
  gpu->add_option("--batch", o->batch_size, "sequences; 0, with part step alone: the most that fit")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  gpu->add_option("--length", o->length, "tokens per sequence")
      ->check(CLI::Range(64, 1 << 20))
      ->capture_default_str();
  gpu->add_option("--context", o->context, "tokens before decoding")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  gpu->add_option("--decode-tokens", o->decode_tokens, "timed tokens")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  gpu->add_option("--recompute", o->recompute,
                  "in forward + backward: none, cheap ops, these and the delta rule, or block")
      ->check(CLI::IsMember({"none", "cheap", "delta", "block"}))
      ->capture_default_str();
  gpu->add_flag("--by-op", o->by_op, "also the time of every op in forward + backward");
  gpu->callback([o] { run(*o); });
}

}  // namespace braid::app

// braid bench cpu: how fast training and decoding are, beside limits measured in the same run.
#include <algorithm>
#include <chrono>
#include <thread>

#include "braid/core/random.h"
#include "braid/model/config_file.h"
#include "braid/model/counts.h"
#include "braid/model/presets.h"
#include "braid/model/session.h"
#include "braid/train/trainer.h"
#include "command.h"
#include "profile.h"

namespace braid::app {
namespace {

struct Options {
  BackendOptions backend;
  std::string write_models, decode_preset = "1b-hybrid-3:1";
  bool by_op = false;
  std::int64_t batch_size = 8, micro_batch_size = 0, sequence_length = 512, steps = 5, decode_tokens = 16;
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Median seconds of `repeats` calls, after one that warms up.
template <class Fn>
double median_seconds(std::int64_t repeats, Fn&& fn) {
  fn();
  std::vector<double> times;
  for (std::int64_t i = 0; i < repeats; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    fn();
    times.push_back(seconds_since(begin));
  }
  std::ranges::nth_element(times, times.begin() + times.size() / 2);
  return times[times.size() / 2];
}

void fill_uniform(const Tensor& t, std::uint64_t seed) {
  Random random(seed);
  for (std::int64_t i = 0; i < t.count(); ++i) {
    const auto x = static_cast<float>(random.uniform() - 0.5) * 0.05F;
    if (t.dtype == DType::f32) t.as<float>()[i] = x;
    if (t.dtype == DType::bf16) t.as<BFloat16>()[i] = BFloat16(x);
  }
}

// Floating-point operations per second of one large f32 matrix product.
double matmul_rate(const Backend& backend) {
  constexpr std::int64_t n = 2048;
  double seconds = 0;
  Buffer memory(3 * align_up(n * n * sizeof(float)));
  Arena arena(memory);
  const Tensor a = arena.make(DType::f32, {n, n}), b = arena.make(DType::f32, {n, n}),
               c = arena.make(DType::f32, {n, n});
  fill_uniform(a, 1);
  fill_uniform(b, 2);
  const auto product = [&](Context& ctx) { ops::matmul(ctx, c, a, b, {.b = ops::Transpose::yes}); };
  Buffer scratch_memory(measure_scratch(backend, product));
  Arena scratch(scratch_memory);
  Context ctx = backend.context(scratch);
  seconds = median_seconds(9, [&] { product(ctx); });
  return 2.0 * n * n * n / seconds;
}

// Bytes per second that all threads together read from memory far larger than the caches.
double read_bandwidth(std::size_t bytes, unsigned threads) {
  const Buffer memory(bytes);
  auto* words = reinterpret_cast<std::uint64_t*>(memory.data());
  const std::size_t count = bytes / sizeof(std::uint64_t), share = count / threads;
  std::vector<std::uint64_t> sums(threads * 8);  // one cache line each
  const auto all = [&](auto&& fn) {
    std::vector<std::thread> pool;
    for (unsigned t = 0; t < threads; ++t) pool.emplace_back([&, t] { fn(t, words + t * share); });
    for (auto& thread : pool) thread.join();
  };
  all([&](unsigned t, std::uint64_t* part) { std::fill_n(part, share, t + 1); });
  const double seconds = median_seconds(5, [&] {
    all([&](unsigned t, const std::uint64_t* part) {
      std::uint64_t sum[8] = {};
      for (std::size_t i = 0; i + 8 <= share; i += 8) {
        for (std::size_t j = 0; j < 8; ++j) sum[j] += part[i + j];
      }
      sums[t * 8] += sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
    });
  });
  require(sums[0] != 0, "bench: the bandwidth loop was optimised away");
  return static_cast<double>(bytes) / seconds;
}

// Twenty million parameters: the 3:1 hybrid at width 384.
model::ModelConfig training_model() {
  model::ModelConfig c;
  c.vocabulary_size = 6144;
  c.hidden_size = 384;
  c.intermediate_size = 1024;
  c.layers = model::layer_pattern(model::Variant::hybrid_3_1, 8);
  c.attention.heads = c.attention.kv_heads = 6;
  c.attention.head_dim = 64;
  c.linear.key_heads = c.linear.value_heads = 6;
  c.linear.key_dim = 48;
  c.linear.value_dim = 96;
  c.max_positions = 512;
  return c;
}

void print_op_times(const Backend& backend, std::int64_t calls) {
  double all = 0;
  for (const auto& t : op_times(backend)) all += t.seconds;
  for (const auto& t : op_times(backend)) {
    fmt::print("    {:<42}{:>9.2f} ms{:>7} calls{:>9.1f}%\n", t.name,
               1e3 * t.seconds / static_cast<double>(calls), t.calls / calls, 100 * t.seconds / all);
  }
}

// A preset, or the model that the training step runs.
constexpr std::string_view kTrainingModel = "20m-hybrid";
model::ModelConfig decode_model(const Options& o) {
  if (o.decode_preset == kTrainingModel) return training_model();
  const auto found = model::preset(o.decode_preset);
  require(found.has_value(), "--decode-model '{}' is no preset: 'braid inspect --list' prints them",
          o.decode_preset);
  return *found;
}

struct Rate {
  double tokens_per_second = 0, ratio = 0;
};

Rate bench_training(const Backend& backend, const Options& o, double limit) {
  train::RunConfig config;
  config.model = training_model();
  config.data.sequence_length = o.sequence_length;
  config.batch_size = o.batch_size;
  config.micro_batch_size = o.micro_batch_size == 0 ? o.batch_size : o.micro_batch_size;
  config.steps = 1000;
  train::Trainer trainer(backend, config);
  model::initialize(trainer.parameters().tree(), config.model, 1);
  data::Batch batch{.instances = o.batch_size,
                    .sequence_length = o.sequence_length,
                    .ids = {},
                    .targets = {},
                    .positions = {},
                    .segment_offsets = {},
                    .predicted = o.batch_size * (o.sequence_length - 1)};
  auto layout = model::RowLayout::of(o.batch_size, o.sequence_length);
  Random random(7);
  for (std::size_t i = 0; i < layout.positions.size(); ++i) {
    batch.ids.push_back(static_cast<std::int32_t>(random.below(6144)));
    const bool last = (static_cast<std::int64_t>(i) + 1) % o.sequence_length == 0;
    batch.targets.push_back(last ? -1 : static_cast<std::int32_t>(random.below(6144)));
  }
  batch.positions = std::move(layout.positions);
  batch.segment_offsets = std::move(layout.offsets);
  std::int64_t step = 0;
  const double seconds = median_seconds(o.steps, [&] {
    if (o.by_op && step == 1) reset_op_times(backend);  // after the warm-up
    trainer.step(batch, ++step);
  });
  if (o.by_op) print_op_times(backend, o.steps);
  const double rate = static_cast<double>(o.batch_size * o.sequence_length) / seconds;
  return {rate, rate * model::training_flops(config.model, o.sequence_length) / limit};
}

Rate bench_decode(const Backend& backend, const Options& o, double limit) {
  auto config = decode_model(o);
  model::ParameterSet parameters(config, {.matrix = DType::bf16});
  std::int64_t bytes = 0;  // read per token: everything but the embedding table
  for (const auto& [spec, t] : model::list(parameters.tree(), config)) {
    fill_uniform(t, 1);
    if (spec.role != nn::ParameterRole::embedding) bytes += static_cast<std::int64_t>(t.bytes());
  }
  model::Session session(backend, config, parameters.tree(),
                         {.sequences = 1, .capacity = 16 + 2 * o.decode_tokens, .max_tokens = 16});
  session.extend({std::vector<std::int32_t>(16, 5)});
  bytes += 2 * static_cast<std::int64_t>(session.state_bytes());
  if (o.by_op) reset_op_times(backend);
  const double seconds = median_seconds(o.decode_tokens, [&] { session.extend({{5}}); });
  if (o.by_op) print_op_times(backend, o.decode_tokens + 1);
  return {1 / seconds, static_cast<double>(bytes) / seconds / limit};
}

void write_models(const Options& o) {
  const io::fs::path folder = o.write_models;
  io::fs::create_directories(folder / "train");
  io::fs::create_directories(folder / "decode");
  io::write_file(folder / "train" / "config.json", model::write_config(training_model(), "float32"));
  io::write_file(folder / "decode" / "config.json", model::write_config(decode_model(o), "bfloat16"));
  fmt::print("wrote {0}/train/config.json and {0}/decode/config.json\n", folder.string());
}

void run(const Options& o) {
  require(o.backend.name != "cuda", "bench cpu times the CPU: 'braid bench gpu' is the GPU's");
  if (!o.write_models.empty()) return write_models(o);
  require(o.micro_batch_size == 0 || o.batch_size % o.micro_batch_size == 0,
          "--micro-batch {} does not divide --batch {}", o.micro_batch_size, o.batch_size);
  const Backend made = o.backend.make(), backend = o.by_op ? profiled(made) : made;
  const unsigned threads = o.backend.threads != 0 ? static_cast<unsigned>(o.backend.threads)
                                                  : std::max(1U, std::thread::hardware_concurrency());
  const double flops = matmul_rate(backend);
  const double bandwidth = read_bandwidth(std::size_t{2} << 30, threads);
  fmt::print("{:<46}{:>12}{:>14}{:>10}\n", "", "tokens/s", "limit", "reached");
  fmt::print("{:<46}{:>12}{:>7.1f} GFLOP/s\n",
             fmt::format("f32 matrix product, 2048 cubed, {} threads", threads), "", flops / 1e9);
  fmt::print("{:<46}{:>12}{:>7.1f} GB/s\n", "read bandwidth, 2 GiB", "", bandwidth / 1e9);
  const auto training = bench_training(backend, o, flops);
  fmt::print("{:<46}{:>12.1f}{:>14}{:>9.1f}%\n",
             fmt::format("training step, 20M hybrid, f32, {} x {}", o.batch_size, o.sequence_length),
             training.tokens_per_second, "products", 100 * training.ratio);
  std::fflush(stdout);
  const auto decode = bench_decode(backend, o, bandwidth);
  fmt::print("{:<46}{:>12.2f}{:>14}{:>9.1f}%\n", fmt::format("decode, {}, bf16, batch 1", o.decode_preset),
             decode.tokens_per_second, "bandwidth", 100 * decode.ratio);
}

}  // namespace

void add_bench(CLI::App& app) {
  auto* command = app.add_subcommand("bench", "speed, as ratios to this machine's limits");
  command->require_subcommand(1);
  add_gpu_bench(*command);
  auto* cpu = command->add_subcommand("cpu", "training step and decode on the CPU");
  auto o = std::make_shared<Options>();
  o->backend.add_to(*cpu);
  cpu->add_flag("--by-op", o->by_op, "also the time of every op");
  cpu->add_option("--batch", o->batch_size, "sequences per step")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  cpu->add_option("--micro-batch", o->micro_batch_size, "sequences at a time, 0: all")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  cpu->add_option("--length", o->sequence_length, "tokens per sequence")
      ->check(CLI::Range(2, 512))
      ->capture_default_str();
  cpu->add_option("--steps", o->steps, "timed steps")->check(CLI::Range(1, 1000))->capture_default_str();
  cpu->add_option("--decode-model", o->decode_preset,
                  "preset to decode with, or 20m-hybrid, the model of the training step")
      ->capture_default_str();
  cpu->add_option("--decode-tokens", o->decode_tokens, "timed tokens")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  cpu->add_option("--write-models", o->write_models, "only write both configurations, for the peers' script");
  cpu->callback([o] { run(*o); });
}

}  // namespace braid::app

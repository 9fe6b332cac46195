// What the parts of "braid bench gpu" share: its options, the clock, the ceilings, memory full of plausible
// numbers.
#pragma once
#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include "braid/core/random.h"
#include "braid/model/host_batch.h"
#include "braid/ops/op_table.h"
#include "command.h"

namespace braid::app::gpu_bench {

struct Options {
  std::string model = "olmo-hybrid-7b";
  std::vector<std::string> parts{"ops", "gradients", "prefill", "decode", "step"};
  std::int64_t batch_size = 1, length = 8192, steps = 3, context = 1024, decode_tokens = 64;
  std::vector<std::int64_t> sequences{1, 16};
  std::string recompute = "none";
  bool by_op = false;
  std::vector<std::int64_t> lab_runs{1, 8};
  std::vector<std::string> lab_models{"transformer", "gdn-negative", "hybrid-negative"};
  std::vector<std::string> lab_cases{"swaps-8", "swaps-64", "recall-128"};
  double lab_seconds = 1;

  // Tokens before decoding. Those that are timed lie around the context: two and two rounds of warming up
  // come before them.
  std::int64_t prompt() const { return context - 2 - 5 * decode_tokens / 2; }
};

// What the machine reaches at most: bf16 products, FLOP/s, and copies, bytes read and written a second.
struct Ceilings {
  double flops = 0, bandwidth = 0;
};

inline void synchronize(const Backend& backend) { backend.memory->read(nullptr, nullptr, 0); }

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

// Measures and prints them.
Ceilings measure_ceilings(const Backend& backend, Filler& filler);

// Every op alone at the model's shapes.
void bench_ops(const Backend&, const Ceilings&, Filler&, const Options&, const model::ModelConfig&);
// Forward and backward in bf16, without an optimiser.
void bench_gradients(const Backend&, const Ceilings&, Filler&, const Options&, const model::ModelConfig&);
// The whole training step.
void bench_step(const Backend&, const Ceilings&, Filler&, const Options&, const model::ModelConfig&);
// Prefill and decode, where the options ask for them.
void bench_inference(const Backend&, const Ceilings&, Filler&, const Options&, const model::ModelConfig&);

// Training steps of the lab's models, so many runs at a time.
struct LabCase {
  std::string problem;
  std::int64_t n = 0;
};
void bench_lab(const Options&);

}  // namespace braid::app::gpu_bench

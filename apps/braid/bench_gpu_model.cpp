// The whole model: gradients, training step, prefill, decode.
#include <map>

#include "bench_gpu.h"
#include "braid/infer/sampling.h"
#include "braid/model/counts.h"
#include "braid/model/session.h"
#include "braid/train/trainer.h"
#include "memory_text.h"
#include "profile.h"

namespace braid::app::gpu_bench {
namespace {

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

}  // namespace

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
                              {.scale = model::upload(ctx, step, std::array{1e-4}), .keep = keep_of(o)});
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
  constexpr std::int64_t kMostTokens = 1024;  // of one call
  const std::int64_t prompt = o.prompt();
  const RandomTokens tokens_before(prompt, c.vocabulary_size);
  for (const std::int64_t sequences : o.sequences) {
    model::Session session(
        backend, c, weights.tree(),
        {.sequences = sequences, .capacity = o.context + 4 * o.decode_tokens + 8, .max_tokens = kMostTokens});
    for (std::int64_t s = 0; s < sequences; ++s) {
      for (std::int64_t begin = 0; begin < prompt; begin += kMostTokens) {
        std::vector<std::vector<std::int32_t>> tokens(static_cast<std::size_t>(sequences));
        const auto at = tokens_before.ids.begin();
        tokens[static_cast<std::size_t>(s)] = {at + begin, at + std::min(begin + kMostTokens, prompt)};
        session.extend(tokens);
      }
    }
    // As generation does: one token each, the next ones drawn where the logits are.
    infer::Sampler sampler(backend, {});
    const std::vector<infer::Draw> draws(static_cast<std::size_t>(sequences));
    std::vector<std::vector<std::int32_t>> next(static_cast<std::size_t>(sequences), {5});
    const auto decode = [&] {
      const auto ids = sampler.draw(session.extend_in_place(next), draws);
      for (std::size_t s = 0; s < ids.size(); ++s) next[s] = {ids[s]};
    };
    decode();
    decode();
    std::int64_t left = 3 * o.decode_tokens;
    const double seconds =
        mean_seconds(backend, 0,
                     [&] {
                       for (std::int64_t i = 0; i < o.decode_tokens && left > 0; ++i, --left) decode();
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

}  // namespace braid::app::gpu_bench

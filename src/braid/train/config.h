// A training run as its TOML recipe says it, with every default filled in. docs/training.md lists the keys.
#pragma once
#include <string>
#include <vector>

#include "braid/train/checkpoint_config.h"
#include "braid/train/data_config.h"
#include "braid/train/model_table.h"
#include "braid/train/optimizer_config.h"
#include "braid/train/preference_loss.h"
#include "braid/train/schedule.h"

namespace braid::train {

// What the layers compute in. Master weights, gradients and optimiser state are f32 in every case.
enum class Precision : std::uint8_t {
  automatic,  // bf16 where the backend's matrix units take it, else f32
  f32,
  bf16,
};

// What backward finds and what it computes again.
enum class Recompute : std::uint8_t {
  none,
  block,      // each block keeps only its input
  automatic,  // as little as the free memory asks for
};

enum class ObjectiveKind : std::uint8_t {
  next_token,
  dpo,  // length-normalised direct preference optimisation
};

struct RunConfig {
  std::uint64_t seed = 1;
  fs::path folder;             // metrics, checkpoints and the final model
  fs::path initial_model;      // start from these weights; empty: initial values
  fs::path initial_optimizer;  // checkpoint whose optimiser state goes on; empty: a fresh one
  model::ModelConfig model;

  DataConfig data;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  std::int64_t steps = 0;
  std::int64_t batch_size = 8;              // sequences per step
  std::int64_t micro_batch_size = 0;        // sequences per forward and backward; 0: the whole batch
  std::vector<BatchWarmup> batch_warmup{};  // ascending; schedule.h says what a step takes
  std::vector<StepRange> skip_steps{};      // their data are passed over without an update
  Recompute recompute = Recompute::none;
  Precision precision = Precision::automatic;
  ObjectiveKind objective = ObjectiveKind::next_token;
  PreferenceLossOptions dpo;
  std::int64_t validation_every = 0, validation_batches = 0;  // 0: only at the end; 0: the whole set
  CheckpointConfig checkpoint;
  bool tensorboard = false;  // event files beside metrics.jsonl

  std::string recipe;  // the TOML text with the overrides applied, kept beside the run
};

// Reads the recipe, applies "a.b=value" overrides, rejects keys that nobody knows.
RunConfig read_run_config(const fs::path& path, const std::vector<std::string>& overrides);

}  // namespace braid::train

// A training run as its TOML recipe says it, with every default filled in. docs/training.md lists the keys.
#pragma once
#include <string>
#include <vector>

#include "braid/io/toml.h"
#include "braid/model/language_model.h"

namespace braid::train {

namespace fs = std::filesystem;

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

enum class Decay : std::uint8_t { cosine, linear, constant };

struct ScheduleConfig {
  double peak = 3e-4;  // learning rate after warm-up
  std::int64_t warmup_steps = 0;
  Decay decay = Decay::cosine;
  double final_fraction = 0.1;  // of the peak, at the last step
};

struct OptimizerConfig {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;     // on everything but the token embedding
  double max_gradient_norm = 1;  // 0: no clipping
  double z_loss = 1e-5;
};

struct DataConfig {
  std::vector<fs::path> documents;          // tokenised into `folder` when given
  std::vector<fs::path> train, validation;  // token files otherwise
  fs::path folder;
  std::string tokenizer = "byte";  // "byte", a tokenizer.json or a model directory
  double validation_fraction = 0.02;
  std::int64_t sequence_length = 512;
  bool document_masking = false;
};

struct RunConfig {
  std::uint64_t seed = 1;
  fs::path folder;         // metrics, checkpoints and the final model
  fs::path initial_model;  // start from these weights; empty: initial values
  model::ModelConfig model;

  DataConfig data;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  std::int64_t steps = 0;
  std::int64_t batch_size = 8;        // sequences per step
  std::int64_t micro_batch_size = 0;  // sequences per forward and backward; 0: the whole batch
  Recompute recompute = Recompute::none;
  Precision precision = Precision::automatic;
  std::int64_t validation_every = 0, validation_batches = 0;  // 0: only at the end; 0: the whole set
  std::int64_t checkpoint_every = 0, checkpoints_kept = 2;    // 0: only at the end

  std::string recipe;  // the TOML text with the overrides applied, kept beside the run
};

// Reads the recipe, applies "a.b=value" overrides, rejects keys that nobody knows.
RunConfig read_run_config(const fs::path& path, const std::vector<std::string>& overrides);

// The [model] table: a preset, a config.json, a model directory, or sizes with a variant.
model::ModelConfig read_model_table(const io::TomlFields& table, std::int64_t sequence_length);

// Learning rate of a step, counted from 1: linear warm-up to the peak, then decay to its final fraction.
double learning_rate(const ScheduleConfig& schedule, std::int64_t step, std::int64_t steps);

}  // namespace braid::train

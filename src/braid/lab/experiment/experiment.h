// An experiment of the lab as its TOML file says it: one problem, some architectures, a curriculum, a search
// grid and evaluation lengths (paper, section 3.5 and appendix C). docs/lab.md lists the keys.
#pragma once
#include <string>
#include <vector>

#include "braid/lab/experiment/curriculum.h"
#include "braid/lab/experiment/grid.h"
#include "braid/lab/problem.h"
#include "braid/train/config.h"

namespace braid::lab {

namespace fs = std::filesystem;

enum class LossTokens : std::uint8_t {
  all,      // every next token, as a language model learns
  answers,  // reveals and final answers alone
};

enum class KeepModels : std::uint8_t { none, all };

struct Experiment {
  std::string name;
  fs::path folder;
  std::uint64_t seed = 1;
  const Problem* problem = nullptr;
  Form form = Form::code;
  Difficulty settings;  // what all examples share; n and reveal_spacing vary
  std::vector<Architecture> architectures;
  model::ModelConfig hybrid;  // sizes that all share, and the hybrid's pattern of layers
  Curriculum curriculum;

  std::int64_t steps = 0, batch_size = 32, warmup_steps = 250;
  LossTokens loss = LossTokens::all;
  double final_fraction = 0;  // of the learning rate, at the end of the cosine
  train::OptimizerConfig optimizer;
  train::Precision precision = train::Precision::automatic;
  std::int64_t check_every = 100, check_samples = 256;
  std::int64_t checkpoint_seconds = 120;
  KeepModels keep_models = KeepModels::none;

  Grid grid;

  std::vector<std::int64_t> lengths;  // n of the evaluation, rising
  std::int64_t samples = 256;         // of each
  // Reveals of checks and evaluation: after so many actions, or every n / parts of them; both 0: none.
  std::int64_t evaluation_reveal_spacing = 0, evaluation_parts = 0;

  std::string text;  // the TOML with the overrides applied, kept beside the runs

  std::vector<RunSpec> runs() const { return expand(grid, architectures, seed); }
  Difficulty difficulty(std::int64_t n, std::int64_t reveal_spacing) const;
  // Of checks and evaluation.
  Difficulty evaluation_difficulty(std::int64_t n) const;
  // Ids that its examples use are below it.
  std::int64_t words() const;
  // How train::Trainer sees one of the runs; sequence_length is left to whoever packs its batches.
  train::RunConfig training(const RunSpec& run) const;
};

// Reads the file, applies "a.b=value" overrides, rejects keys that nobody knows. Errors name file and field.
Experiment read_experiment(const fs::path& path, const std::vector<std::string>& overrides = {});
// The same from text; `source` names it in errors.
Experiment parse_experiment(std::string_view text, const std::string& source);

}  // namespace braid::lab

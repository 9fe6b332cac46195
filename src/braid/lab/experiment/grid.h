// The runs of an experiment: every model with every setting of the search.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "braid/model/config.h"
#include "braid/train/schedule.h"

namespace braid::lab {

// The five models of the paper's section 3.5.
enum class Architecture : std::uint8_t {
  transformer,
  gdn_negative,  // Gated DeltaNet with beta in (0, 2)
  gdn_positive,  // … in (0, 1)
  hybrid_negative,
  hybrid_positive,
};
std::span<const Architecture> all_architectures();
std::string_view name_of(Architecture architecture);  // "gdn-negative"
// The hybrid's sizes and pattern of layers, changed into this architecture's.
model::ModelConfig config_of(Architecture architecture, const model::ModelConfig& hybrid);

struct Grid {
  std::vector<double> learning_rates;
  std::vector<train::Decay> schedules;  // cosine and constant
  std::vector<std::int64_t> seeds;
  std::int64_t draws = 0;  // 0: every combination; else so many random ones, each with a seed of its own
};

struct RunSpec {
  Architecture architecture = Architecture::transformer;
  double learning_rate = 0;
  train::Decay schedule = train::Decay::cosine;
  std::int64_t seed = 0;

  std::string name() const;  // "gdn-negative_lr0.001_cosine_seed1", also of its folder
  bool operator==(const RunSpec&) const = default;
};

// In the order in which they are made: each setting of the search with every architecture before the next.
// Draws are the same for all architectures, a pure function of `seed`, and their seeds count up from the
// first of grid.seeds.
std::vector<RunSpec> expand(const Grid& grid, std::span<const Architecture> architectures,
                            std::uint64_t seed);

std::string_view name_of_schedule(train::Decay schedule);  // "cosine" or "constant"

}  // namespace braid::lab

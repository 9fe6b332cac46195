#include "braid/lab/experiment/grid.h"

#include <array>

#include "braid/core/random.h"

namespace braid::lab {

std::span<const Architecture> all_architectures() {
  static constexpr std::array kAll = {Architecture::transformer, Architecture::gdn_negative,
                                      Architecture::gdn_positive, Architecture::hybrid_negative,
                                      Architecture::hybrid_positive};
  return kAll;
}

std::string_view name_of(Architecture architecture) {
  switch (architecture) {
    case Architecture::transformer:
      return "transformer";
    case Architecture::gdn_negative:
      return "gdn-negative";
    case Architecture::gdn_positive:
      return "gdn-positive";
    case Architecture::hybrid_negative:
      return "hybrid-negative";
    case Architecture::hybrid_positive:
      return "hybrid-positive";
  }
  return "";
}

model::ModelConfig config_of(Architecture architecture, const model::ModelConfig& hybrid) {
  using enum Architecture;
  auto c = hybrid;
  for (auto& layer : c.layers) {
    if (architecture == transformer) layer = model::LayerType::full_attention;
    if (architecture == gdn_negative || architecture == gdn_positive) {
      layer = model::LayerType::linear_attention;
    }
  }
  c.linear.negative_eigenvalues = architecture == gdn_negative || architecture == hybrid_negative;
  return c;
}

std::string_view name_of_schedule(train::Decay schedule) {
  return schedule == train::Decay::cosine ? "cosine" : "constant";
}

std::string RunSpec::name() const {
  return fmt::format("{}_lr{}_{}_seed{}", name_of(architecture), learning_rate, name_of_schedule(schedule),
                     seed);
}

std::vector<RunSpec> expand(const Grid& grid, std::span<const Architecture> architectures,
                            std::uint64_t seed) {
  std::vector<RunSpec> settings;
  if (grid.draws == 0) {
    for (const auto run_seed : grid.seeds) {
      for (const auto rate : grid.learning_rates) {
        for (const auto schedule : grid.schedules) settings.push_back({{}, rate, schedule, run_seed});
      }
    }
  } else {
    constexpr std::uint64_t kStream = 0x67726964;  // "grid"
    Random random(seed, kStream);
    for (std::int64_t draw = 0; draw < grid.draws; ++draw) {
      const auto rate = grid.learning_rates[random.below(grid.learning_rates.size())];
      const auto schedule = grid.schedules[random.below(grid.schedules.size())];
      settings.push_back({{}, rate, schedule, grid.seeds.front() + draw});
    }
  }
  std::vector<RunSpec> runs;
  for (auto setting : settings) {
    for (const auto architecture : architectures) {
      setting.architecture = architecture;
      runs.push_back(setting);
    }
  }
  return runs;
}

}  // namespace braid::lab

// The [optimizer] table of a recipe.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "braid/nn/parameters.h"
#include "braid/train/fields.h"
#include "braid/train/skip_step.h"

namespace braid::train {

enum class OptimizerKind : std::uint8_t {
  adamw,
  skip_step_adamw,  // leaves out steps whose loss or gradient norm is an outlier (skip_step.h)
};

struct OptimizerConfig {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;
  double max_gradient_norm = 1;  // 0: no clipping
  double z_loss = 1e-5;
  OptimizerKind kind = OptimizerKind::adamw;
  SkipStepOptions skip{};
  // Parameters without weight decay: groups ("embedding", "norm": all norm gains, "gates": A_log and
  // dt_bias), and names with * for any text. The paper decays everything but the embedding (OLMo-core's
  // script).
  std::vector<std::string> no_decay{"embedding"};
};

OptimizerConfig read_optimizer_config(const io::TomlFields& table);

bool decays(const OptimizerConfig& config, const nn::ParameterSpec& parameter);
// Throws where a name in no_decay is none of these parameters'.
void check_no_decay(const OptimizerConfig& config, std::span<const nn::ParameterSpec> parameters);

}  // namespace braid::train

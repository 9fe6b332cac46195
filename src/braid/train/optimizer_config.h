// The [optimizer] table of a recipe.
#pragma once
#include "braid/train/fields.h"

namespace braid::train {

struct OptimizerConfig {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;     // on everything but the token embedding
  double max_gradient_norm = 1;  // 0: no clipping
  double z_loss = 1e-5;
};

OptimizerConfig read_optimizer_config(const io::TomlFields& table);

}  // namespace braid::train

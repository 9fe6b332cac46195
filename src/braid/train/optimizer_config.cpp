#include "braid/train/optimizer_config.h"

#include <cmath>

namespace braid::train {

OptimizerConfig read_optimizer_config(const io::TomlFields& f) {
  const double below_one = std::nextafter(1.0, 0.0);
  return {.beta1 = f.number_or("beta1", 0.9, 0, below_one),
          .beta2 = f.number_or("beta2", 0.95, 0, below_one),
          .epsilon = f.number_or("epsilon", 1e-8, 0, 1),
          .weight_decay = f.number_or("weight_decay", 0.1, 0, 1e3),
          .max_gradient_norm = f.number_or("max_gradient_norm", 1, 0, 1e9),
          .z_loss = f.number_or("z_loss", 1e-5, 0, 1)};
}

}  // namespace braid::train

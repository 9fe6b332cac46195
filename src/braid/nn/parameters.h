// How a layer lists its parameters. Each layer has visit(Params&, Config, fn), which calls fn(ParameterSpec,
// Tensor&) once per parameter, always in the same order; allocation, initialisation, files, optimiser and
// gradient checks all walk that list.
#pragma once
#include <string>
#include <vector>

#include "braid/core/tensor.h"

namespace braid::nn {

enum class Initializer : std::uint8_t {
  normal,          // truncated normal, standard deviation 0.02, cut at 3 standard deviations (OLMo-core's
                   // "normal")
  fan_in_uniform,  // uniform ± 1 / sqrt(fan in): PyTorch's Linear and Conv default, as the 7B's GDN layers
                   // (App. A.1)
  ones,
  a_log,    // log A, A uniform in (0, 16]
  dt_bias,  // softplus⁻¹(dt), dt log-uniform in [1e-3, 0.1], at least 1e-4
};

enum class ParameterRole : std::uint8_t {
  embedding,  // (V, C): no weight decay
  matrix,     // may be kept in bf16 for inference
  precise,    // small and sensitive: f32 in training and inference
};

// Rows [begin, begin + rows) of a fused parameter, under the name that files use.
struct ParameterPart {
  std::string name;
  std::int64_t rows;
};

struct ParameterSpec {
  std::string name;  // relative to its layer
  Shape shape;
  Initializer initializer = Initializer::normal;
  ParameterRole role = ParameterRole::matrix;
  std::vector<ParameterPart> parts{};  // empty: one tensor in files, under `name`
};

}  // namespace braid::nn

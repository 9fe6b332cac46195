// What a configuration costs: parameters, floating-point operations (paper Appendix D.4's formulas), bytes.
#pragma once
#include <string>
#include <vector>

#include "braid/model/language_model.h"
#include "braid/ops/backend.h"

namespace braid::model {

struct ParameterCounts {
  std::int64_t embedding = 0, attention = 0, linear = 0, mlp = 0, norms = 0, head = 0;
  std::int64_t total() const { return embedding + attention + linear + mlp + norms + head; }
  // The paper's N: everything but the input embedding (a tied head counts once, as the head).
  std::int64_t without_embedding() const { return total() - embedding; }
};
ParameterCounts count_parameters(const ModelConfig& config);

// How the delta rule is counted: state updates token by token, or the chunk form that training runs.
enum class DeltaForm : std::uint8_t { recurrent, chunked };
inline constexpr std::int64_t kFlopChunk = 256;  // L_chunk of the paper's formula

// Multiply-accumulates per token, per layer and in the head, at an average over a sequence of `context`
// tokens.
struct TokenMacs {
  double attention = 0, linear = 0, mlp = 0, head = 0;
  double total() const { return attention + linear + mlp + head; }
};
TokenMacs count_macs(const ModelConfig& config, std::int64_t context, DeltaForm form);
// F = 2 · MACs.
inline double forward_flops(const ModelConfig& config, std::int64_t context, DeltaForm form) {
  return 2 * count_macs(config, context, form).total();
}
// C = 3F per token.
inline double training_flops(const ModelConfig& config, std::int64_t context) {
  return 3 * forward_flops(config, context, DeltaForm::chunked);
}

// Bytes of a training step, found by running it dry on `backend`.
struct TrainingBytes {
  std::size_t parameters = 0, gradients = 0, optimizer = 0, activations = 0, scratch = 0, rotary = 0;
  std::size_t total() const { return parameters + gradients + optimizer + activations + scratch + rotary; }
};
TrainingBytes measure_training(const Backend& backend, const ModelConfig& config, std::int64_t batch,
                               std::int64_t length, LossOptions options);

}  // namespace braid::model

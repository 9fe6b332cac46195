// Everything that another implementation can be compared on, under the names of
// tools/reference/make_goldens.py.
#pragma once
#include <deque>

#include "braid/io/safetensors.h"
#include "braid/model/weights.h"
#include "braid/ops/backend.h"

namespace braid::eval {

// Tensors with the memory behind them.
class TensorBag {
 public:
  Tensor make(const std::string& name, DType dtype, const Shape& shape);
  const std::vector<io::NamedTensor>& tensors() const { return tensors_; }
  const ConstTensor& at(const std::string& name) const;

 private:
  std::deque<Buffer> buffers_;
  std::vector<io::NamedTensor> tensors_;
};

enum class DumpGradients : bool { no, yes };

inline constexpr std::int64_t kDumpNewTokens = 24, kDumpSteps = 70, kDumpUpdates = 4;

// `inputs` holds input_ids, i64 (B, T), and may hold prompt, i64 (1, P). Writes into the bag
//   logits f32 (B, T, V); loss, z_loss f32 (); step_logits f32 (min(T, 70), V), row 0 through the decode
//   state greedy i64 (1, P + 24), end-of-text never chosen
// and with gradients grad.NAME f32 for every parameter, and adamw.losses f32 (4): the loss before each of
// four AdamW steps (lr 1e-3, betas 0.9/0.95, eps 1e-8, weight decay 0.1 on every tensor, no clipping). The
// model's f32 parameters are changed by the AdamW steps.
void dump(TensorBag& out, const Backend& backend, const model::Model& model, const io::TensorFiles& inputs,
          DumpGradients gradients);

}  // namespace braid::eval

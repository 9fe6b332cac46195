#include "braid/backends/cuda/attention/cudnn.h"

namespace braid::cuda::cudnn {
namespace {

[[noreturn]] void absent() {
  fail("attention: this braid was built without cuDNN: run scripts/setup.sh --cuda, then configure again");
}

}  // namespace

std::size_t version() { return 0; }

bool supports(const ops::AttentionInputs&, const ops::Segments&, const ops::AttentionOptions&) {
  return false;
}
bool supports_forward(const ops::AttentionInputs&, const ops::Segments&, const ops::AttentionOptions&) {
  return false;
}
bool supports_cached(const ops::AttentionInputs&, const ops::KeyValueCache&, const ops::Segments&,
                     const ops::AttentionOptions&) {
  return false;
}

void forward(Context&, Tensor, Tensor, ops::AttentionInputs, ops::Segments, ops::AttentionOptions) {
  absent();
}
void backward(Context&, ops::AttentionGradients, ConstTensor, ops::AttentionInputs, ops::AttentionOutputs,
              ops::Segments, ops::AttentionOptions) {
  absent();
}
void forward_cached(Context&, Tensor, ops::KeyValueCache, ops::AttentionInputs, ops::Segments, ConstTensor,
                    ops::AttentionOptions) {
  absent();
}
void forward_cached_scratch(Context&, ops::KeyValueCache, ops::AttentionInputs, ops::Segments,
                            ops::AttentionOptions) {
  absent();
}
void forward_scratch(Context&, Tensor, Tensor, ops::AttentionInputs, ops::Segments, ops::AttentionOptions) {
  absent();
}
void backward_scratch(Context&, ops::AttentionGradients, ConstTensor, ops::AttentionInputs,
                      ops::AttentionOutputs, ops::Segments, ops::AttentionOptions) {
  absent();
}

}  // namespace braid::cuda::cudnn

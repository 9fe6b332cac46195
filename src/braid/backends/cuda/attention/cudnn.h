// Attention of training through cuDNN: bf16, causal, windowed, grouped heads, packed documents. The
// statistics are the natural log-sum-exp of the scaled scores as (N, H), so that other kernels may take over
// between the passes.
#pragma once
#include "braid/core/context.h"
#include "braid/ops/attention.h"

namespace braid::cuda::cudnn {

// As the library numbers itself (91900: 9.19.0); 0 where it is not built in.
std::size_t version();

// Whether cuDNN computes both passes, from shapes, dtypes and options alone; backward fails where this is
// false.
bool supports(const ops::AttentionInputs&, const ops::Segments&, const ops::AttentionOptions&);
// Forward alone: also wider heads, and sequences for which a reproducible backward would need too much
// memory.
bool supports_forward(const ops::AttentionInputs&, const ops::Segments&, const ops::AttentionOptions&);

void forward(Context&, Tensor y, Tensor log_sum_exp, ops::AttentionInputs, ops::Segments,
             ops::AttentionOptions);
void backward(Context&, ops::AttentionGradients, ConstTensor dy, ops::AttentionInputs, ops::AttentionOutputs,
              ops::Segments, ops::AttentionOptions);

// Forward with keys and values in the cache, which holds those of the call already: where no ring can have
// wrapped, because there is no window or by cache.longest.
bool supports_cached(const ops::AttentionInputs&, const ops::KeyValueCache&, const ops::Segments&,
                     const ops::AttentionOptions&);
void forward_cached(Context&, Tensor y, ops::KeyValueCache, ops::AttentionInputs, ops::Segments,
                    ConstTensor lengths, ops::AttentionOptions);

// The same scratch tensors, for dry runs. They build the plan: only it knows its workspace.
void forward_scratch(Context&, Tensor y, Tensor log_sum_exp, ops::AttentionInputs, ops::Segments,
                     ops::AttentionOptions);
void backward_scratch(Context&, ops::AttentionGradients, ConstTensor dy, ops::AttentionInputs,
                      ops::AttentionOutputs, ops::Segments, ops::AttentionOptions);

void forward_cached_scratch(Context&, ops::KeyValueCache, ops::AttentionInputs, ops::Segments,
                            ops::AttentionOptions);

}  // namespace braid::cuda::cudnn

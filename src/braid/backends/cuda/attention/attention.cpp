// Attention of training: cuDNN where it can and the sequences are long, else the own kernels, which take f32
// and every width.
#include "braid/backends/cuda/attention/cudnn.h"
#include "braid/backends/cuda/attention/flash.h"
#include "braid/backends/cuda/kernels.h"

namespace braid::cuda {
namespace {

// Sequences so short that cuDNN's fixed costs outweigh its faster products; the two passes decide alike.
bool short_sequences(const ops::AttentionInputs& in, const ops::Segments& segments) {
  constexpr std::int64_t kLongest = 512, kWidest = 64;
  const auto width = in.q.shape[2];
  return flash::on_tensor_cores(in.q.dtype, width) && width <= kWidest && segments.longest > 0 &&
         segments.longest <= kLongest;
}
bool cudnn_forward(const ops::AttentionInputs& in, const ops::Segments& segments,
                   const ops::AttentionOptions& options) {
  return !short_sequences(in, segments) && cudnn::supports_forward(in, segments, options);
}
bool cudnn_backward(const ops::AttentionInputs& in, const ops::Segments& segments,
                    const ops::AttentionOptions& options) {
  return !short_sequences(in, segments) && cudnn::supports(in, segments, options);
}

// dy · y per token and head.
Tensor make_row_dot(Context& ctx, const ops::AttentionInputs& in) {
  return ctx.scratch->make(DType::f32, {in.q.shape[0], in.q.shape[1]});
}

}  // namespace

void attention_forward(Context& ctx, Tensor y, Tensor log_sum_exp, ops::AttentionInputs in,
                       ops::Segments segments, ops::AttentionOptions options) {
  if (cudnn_forward(in, segments, options)) return cudnn::forward(ctx, y, log_sum_exp, in, segments, options);
  flash::forward(ctx, y, log_sum_exp, in.q, in.k, in.v,
                 flash::make_problem("attention_forward", in, segments, options));
}

void scratch::attention_forward(Context& ctx, Tensor y, Tensor log_sum_exp, ops::AttentionInputs in,
                                ops::Segments segments, ops::AttentionOptions options) {
  if (cudnn_forward(in, segments, options))
    cudnn::forward_scratch(ctx, y, log_sum_exp, in, segments, options);
}

void attention_backward(Context& ctx, ops::AttentionGradients grads, ConstTensor dy, ops::AttentionInputs in,
                        ops::AttentionOutputs out, ops::Segments segments, ops::AttentionOptions options) {
  if (cudnn_backward(in, segments, options)) {
    return cudnn::backward(ctx, grads, dy, in, out, segments, options);
  }
  const Arena::Scope scope(*ctx.scratch);
  flash::backward(ctx, grads, dy, in, out, make_row_dot(ctx, in),
                  flash::make_problem("attention_backward", in, segments, options));
}

void scratch::attention_backward(Context& ctx, ops::AttentionGradients grads, ConstTensor dy,
                                 ops::AttentionInputs in, ops::AttentionOutputs out, ops::Segments segments,
                                 ops::AttentionOptions options) {
  if (cudnn_backward(in, segments, options)) {
    return cudnn::backward_scratch(ctx, grads, dy, in, out, segments, options);
  }
  const Arena::Scope scope(*ctx.scratch);
  make_row_dot(ctx, in);
}

}  // namespace braid::cuda

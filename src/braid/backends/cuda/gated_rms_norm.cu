#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/rms_norm.cuh"

namespace braid::cuda {

void gated_rms_norm_forward(Context& ctx, Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor gate,
                            ConstTensor weight, ops::RmsNormOptions options) {
  if (x.count() == 0) return;
  visit_activation("gated_rms_norm_forward", x.dtype, [&]<class T>() {
    rms::launch_forward<true>(ctx, "gated_rms_norm_forward",
                              rms::Forward<T>{.y = pointer<T>(y),
                                              .inverse_rms = pointer<float>(inverse_rms),
                                              .x = pointer<T>(x),
                                              .gate = pointer<T>(gate),
                                              .addend = pointer<T>(options.addend),
                                              .weight = pointer<float>(weight),
                                              .rows = x.shape[0],
                                              .width = static_cast<int>(x.shape[1]),
                                              .epsilon = static_cast<float>(options.epsilon),
                                              .ahead = ctx.fetch == Fetch::ahead});
  });
}

void gated_rms_norm_backward(Context& ctx, Tensor dx, Tensor dgate, Tensor dweight, ConstTensor dy,
                             ConstTensor gate, ops::RmsNormInputs in) {
  if (dy.count() == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  const Tensor sums = rms::make_backward_scratch(ctx, "gated_rms_norm_backward", dy);
  visit_activation("gated_rms_norm_backward", dy.dtype, [&]<class T>() {
    const rms::Backward<T> arguments{.dx = pointer<T>(dx),
                                     .dgate = pointer<T>(dgate),
                                     .sums = pointer<float>(sums),
                                     .dy = pointer<T>(dy),
                                     .x = pointer<T>(in.x),
                                     .gate = pointer<T>(gate),
                                     .weight = pointer<float>(in.weight),
                                     .inverse_rms = pointer<float>(in.inverse_rms),
                                     .rows = dy.shape[0],
                                     .width = static_cast<int>(dy.shape[1])};
    rms::launch_backward<true, false>(ctx, "gated_rms_norm_backward", arguments, sums.shape[0]);
  });
  add_column_sums(ctx, dweight, sums);
}

void scratch::gated_rms_norm_backward(Context& ctx, Tensor, Tensor, Tensor, ConstTensor dy, ConstTensor,
                                      ops::RmsNormInputs) {
  if (dy.count() == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  rms::make_backward_scratch(ctx, "gated_rms_norm_backward", dy);
}

}  // namespace braid::cuda

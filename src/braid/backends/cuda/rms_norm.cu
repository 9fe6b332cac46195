#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/rms_norm.cuh"

namespace braid::cuda {

void rms_norm_forward(Context& ctx, Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor weight,
                      ops::RmsNormOptions options) {
  if (x.count() == 0) return;
  visit_activation("rms_norm_forward", x.dtype, [&]<class T>() {
    rms::launch_forward<false>(ctx, "rms_norm_forward",
                               rms::Forward<T>{.y = pointer<T>(y),
                                               .inverse_rms = pointer<float>(inverse_rms),
                                               .x = pointer<T>(x),
                                               .gate = nullptr,
                                               .addend = pointer<T>(options.addend),
                                               .weight = pointer<float>(weight),
                                               .rows = x.shape[0],
                                               .width = static_cast<int>(x.shape[1]),
                                               .epsilon = static_cast<float>(options.epsilon),
                                               .ahead = ctx.fetch == Fetch::ahead});
  });
}

void rms_norm_backward(Context& ctx, Tensor dx, Tensor dweight, ConstTensor dy, ops::RmsNormInputs in,
                       ops::Accumulate mode) {
  if (dy.count() == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  const Tensor sums = rms::make_backward_scratch(ctx, "rms_norm_backward", dy);
  visit_activation("rms_norm_backward", dy.dtype, [&]<class T>() {
    const rms::Backward<T> arguments{.dx = pointer<T>(dx),
                                     .dgate = nullptr,
                                     .sums = pointer<float>(sums),
                                     .dy = pointer<T>(dy),
                                     .x = pointer<T>(in.x),
                                     .gate = nullptr,
                                     .weight = pointer<float>(in.weight),
                                     .inverse_rms = pointer<float>(in.inverse_rms),
                                     .rows = dy.shape[0],
                                     .width = static_cast<int>(dy.shape[1])};
    if (mode == ops::Accumulate::yes) {
      rms::launch_backward<false, true>(ctx, "rms_norm_backward", arguments, sums.shape[0]);
    } else {
      rms::launch_backward<false, false>(ctx, "rms_norm_backward", arguments, sums.shape[0]);
    }
  });
  add_column_sums(ctx, dweight, sums);
}

void scratch::rms_norm_backward(Context& ctx, Tensor, Tensor, ConstTensor dy, ops::RmsNormInputs,
                                ops::Accumulate) {
  if (dy.count() == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  rms::make_backward_scratch(ctx, "rms_norm_backward", dy);
}

}  // namespace braid::cuda

#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"
#include "braid/backends/cuda/matmul/resident/resident.h"
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

void gated_rms_norm_linear_backward(Context& ctx, Tensor dx, Tensor dgate, Tensor dweight, ConstTensor dout,
                                    ConstTensor out_weight, ConstTensor gate, ops::RmsNormInputs in) {
  const GatedNormBackward norm{dx, dgate, dweight, gate, in};
  const bool beside = in.x.shape[1] == kResidentNormWidth &&
                      resident_supports_beside(ctx.arithmetic, dout, out_weight, out_weight.shape[1]) &&
                      on_16_bytes({dx, dgate, dout, out_weight, gate, in.x});
  if (!beside) {
    return ops::gated_rms_norm_linear_backward_in_parts(ctx, dx, dgate, dweight, dout, out_weight, gate, in);
  }
  scratch::gated_rms_norm_linear_backward(ctx, dx, dgate, dweight, dout, out_weight, gate, in);
  gated_norm_backward_resident(ctx, norm, dout, out_weight);
}

// Where tensors lie is not known in a dry run: there is always room for the parts, which is more.
void scratch::gated_rms_norm_linear_backward(Context& ctx, Tensor dx, Tensor dgate, Tensor dweight,
                                             ConstTensor dout, ConstTensor out_weight, ConstTensor gate,
                                             ops::RmsNormInputs in) {
  const Arena::Scope scope(*ctx.scratch);
  const Tensor dy = ctx.scratch->make(dout.dtype, {dout.shape[0], out_weight.shape[1]});
  scratch::matmul(ctx, dy, dout, out_weight, {});
  scratch::gated_rms_norm_backward(ctx, dx, dgate, dweight, reshaped(dy, in.x.shape), gate, in);
}

}  // namespace braid::cuda

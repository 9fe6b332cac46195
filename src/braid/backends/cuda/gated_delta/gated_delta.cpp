#include "braid/ops/gated_delta.h"

#include <cmath>

#include "braid/backends/cuda/gated_delta/choose_config.h"
#include "braid/backends/cuda/gated_delta/chunked.h"
#include "braid/backends/cuda/gated_delta/recurrent.h"
#include "braid/backends/cuda/kernels.h"

namespace braid::cuda {
namespace {

double scale_of(const ops::GatedDeltaInputs& in, const ops::GatedDeltaOptions& options) {
  return options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(in.k.shape[2]));
}

DeltaPath path_of(const char* op, const Context& ctx, const ops::GatedDeltaInputs& in,
                  const ops::Segments& segments, const ops::GatedDeltaOptions& options, DeltaPass pass) {
  const auto path = choose_config({.tokens = in.v.shape[0],
                                   .segments = segments.count(),
                                   .chunked_supported = chunked::supports(in),
                                   .pass = pass,
                                   .method = options.method,
                                   .arithmetic = ctx.arithmetic});
  require(path == DeltaPath::chunked || in.k.shape[2] <= delta::kMaxKeyWidth,
          "{}: key width {} is not supported on cuda: expected at most {}", op, in.k.shape[2],
          delta::kMaxKeyWidth);
  return path;
}

DeltaPath forward_path(const Context& ctx, const ops::GatedDeltaInputs& in, const ops::Segments& segments,
                       const ops::GatedDeltaOptions& options, const Tensor& checkpoints) {
  return path_of("gated_delta_forward", ctx, in, segments, options,
                 checkpoints.defined() ? DeltaPass::training_forward : DeltaPass::forward);
}

DeltaPath backward_path(const Context& ctx, const ops::GatedDeltaInputs& in, const ops::Segments& segments,
                        const ops::GatedDeltaOptions& options) {
  return path_of("gated_delta_backward", ctx, in, segments, options, DeltaPass::backward);
}

}  // namespace

void gated_delta_forward(Context& ctx, Tensor y, Tensor checkpoints, ops::GatedDeltaStates states,
                         ops::GatedDeltaInputs in, ops::Segments segments, ops::GatedDeltaOptions options) {
  const double scale = scale_of(in, options);
  switch (forward_path(ctx, in, segments, options, checkpoints)) {
    case DeltaPath::step:
      return step::forward(ctx, y, states, in, segments, scale);
    case DeltaPath::chunked:
      return chunked::forward(ctx, y, checkpoints, states, in, segments, scale);
    case DeltaPath::recurrent:
      return recurrent::forward(ctx, y, checkpoints, states, in, segments, scale);
  }
}

void gated_delta_backward(Context& ctx, ops::GatedDeltaGradients grads,
                          ops::GatedDeltaStateGradients state_grads, ConstTensor dy, ops::GatedDeltaInputs in,
                          ops::GatedDeltaSaved saved, ops::Segments segments,
                          ops::GatedDeltaOptions options) {
  const double scale = scale_of(in, options);
  if (backward_path(ctx, in, segments, options) == DeltaPath::chunked) {
    return chunked::backward(ctx, grads, state_grads, dy, in, saved, segments, scale);
  }
  recurrent::backward(ctx, grads, state_grads, dy, in, saved, segments, scale);
}

namespace scratch {

void gated_delta_forward(Context& ctx, Tensor y, Tensor checkpoints, ops::GatedDeltaStates states,
                         ops::GatedDeltaInputs in, ops::Segments segments, ops::GatedDeltaOptions options) {
  if (forward_path(ctx, in, segments, options, checkpoints) != DeltaPath::chunked) return;
  chunked::forward_scratch(ctx, y, checkpoints, states, in, segments, scale_of(in, options));
}

void gated_delta_backward(Context& ctx, ops::GatedDeltaGradients grads,
                          ops::GatedDeltaStateGradients state_grads, ConstTensor dy, ops::GatedDeltaInputs in,
                          ops::GatedDeltaSaved saved, ops::Segments segments,
                          ops::GatedDeltaOptions options) {
  if (backward_path(ctx, in, segments, options) != DeltaPath::chunked) {
    return recurrent::backward_scratch(ctx, in, segments);
  }
  chunked::backward_scratch(ctx, grads, state_grads, dy, in, saved, segments, scale_of(in, options));
}

}  // namespace scratch
}  // namespace braid::cuda

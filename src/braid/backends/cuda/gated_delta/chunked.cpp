#include "braid/backends/cuda/gated_delta/chunked.h"

#include "braid/backends/cuda/gated_delta/chunked_kernels.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda::chunked {
namespace {

Problem problem_of(const ops::GatedDeltaInputs& in, const ops::Segments& segments, double scale) {
  const auto& key = in.k.shape;
  const auto& value = in.v.shape;
  return {.segments = {pointer<std::int32_t>(segments.offsets), static_cast<std::int32_t>(segments.count())},
          .tokens = value[0],
          .slots = segments.count() == 0 ? 0 : value[0] / kChunk + segments.count(),
          .key_heads = static_cast<int>(key[1]),
          .value_heads = static_cast<int>(value[1]),
          .key_width = static_cast<int>(key[2]),
          .value_width = static_cast<int>(value[2]),
          .scale = static_cast<float>(scale != 0 ? scale : 1.0 / std::sqrt(static_cast<double>(key[2])))};
}

Inputs inputs_of(const ops::GatedDeltaInputs& in) {
  return {.q = pointer<bf16>(in.q),
          .k = pointer<bf16>(in.k),
          .v = pointer<bf16>(in.v),
          .log_decay = pointer<float>(in.log_decay),
          .beta = pointer<float>(in.beta)};
}

enum class Pass : bool { forward, backward };

Chunks make_chunks(Context& ctx, const Problem& p, Pass pass) {
  const auto make = [&](DType dtype, std::int64_t rows, std::int64_t columns) {
    return ctx.scratch->make(dtype, {p.slots, p.value_heads, rows, columns}).mutable_data();
  };
  const DType dtype = pass == Pass::forward ? DType::f16 : DType::bf16;
  Chunks chunks{};
  chunks.scalars = static_cast<float*>(make(DType::f32, kScalars, kChunk));
  chunks.response = make(dtype, kChunk, kChunk);
  chunks.written = make(dtype, kChunk, padded_width(p.key_width));
  if (pass == Pass::backward) chunks.predicted = static_cast<__half*>(make(DType::f16, kChunk, kChunk));
  return chunks;
}

// Backward's scratch besides the chunks. dq and dk: per value head, where several share a key head.
struct BackwardScratch {
  Chunks chunks;
  bf16* dstates;
  float *dq = nullptr, *dk = nullptr;
};
BackwardScratch make_backward_scratch(Context& ctx, const Problem& p, std::int64_t tokens) {
  BackwardScratch scratch{};
  scratch.chunks = make_chunks(ctx, p, Pass::backward);
  scratch.dstates =
      pointer<bf16>(ctx.scratch->make(DType::bf16, {p.slots, p.value_heads, p.key_width, p.value_width}));
  if (p.group() > 1) {
    for (float** part : {&scratch.dq, &scratch.dk}) {
      *part = pointer<float>(ctx.scratch->make(DType::f32, {tokens, p.value_heads, p.key_width}));
    }
  }
  return scratch;
}

}  // namespace

bool supports(const ops::GatedDeltaInputs& in) {
  const auto fits = [](std::int64_t width) { return width > 0 && width % 16 == 0 && width <= 256; };
  return in.q.dtype == DType::bf16 && fits(in.k.shape[2]) && fits(in.v.shape[2]);
}

void forward(Context& ctx, Tensor y, Tensor checkpoints, ops::GatedDeltaStates states,
             ops::GatedDeltaInputs in, ops::Segments segments, double scale) {
  const Arena::Scope scope(*ctx.scratch);
  const Problem p = problem_of(in, segments, scale);
  const Inputs inputs = inputs_of(in);
  const Chunks chunks = make_chunks(ctx, p, Pass::forward);
  prepare(ctx, p, inputs, chunks);
  scan_forward(ctx, p, inputs, chunks, pointer<bf16>(y),
               {.initial = pointer<float>(states.initial),
                .final = pointer<float>(states.final),
                .checkpoints = pointer<bf16>(checkpoints)},
               state_of(ctx).saturated);
}

void forward_scratch(Context& ctx, Tensor, Tensor, ops::GatedDeltaStates, ops::GatedDeltaInputs in,
                     ops::Segments segments, double scale) {
  const Arena::Scope scope(*ctx.scratch);
  make_chunks(ctx, problem_of(in, segments, scale), Pass::forward);
}

void backward(Context& ctx, ops::GatedDeltaGradients grads, ops::GatedDeltaStateGradients state_grads,
              ConstTensor dy, ops::GatedDeltaInputs in, ops::GatedDeltaSaved saved, ops::Segments segments,
              double scale) {
  const Arena::Scope scope(*ctx.scratch);
  const Problem p = problem_of(in, segments, scale);
  const Inputs inputs = inputs_of(in);
  const std::int64_t tokens = in.q.shape[0];
  const BackwardScratch scratch = make_backward_scratch(ctx, p, tokens);
  const bool summed_later = p.group() > 1;
  prepare(ctx, p, inputs, scratch.chunks);
  scan_backward(ctx, p, inputs, scratch.chunks, pointer<bf16>(dy), pointer<bf16>(grads.v),
                {.dfinal = pointer<float>(state_grads.final),
                 .dinitial = pointer<float>(state_grads.initial),
                 .dstates = scratch.dstates});
  gradient(ctx, p, inputs, scratch.chunks,
           {.dy = pointer<bf16>(dy), .states = pointer<bf16>(saved.checkpoints), .dstates = scratch.dstates},
           {.dq = summed_later ? scratch.dq : grads.q.mutable_data(),
            .dk = summed_later ? scratch.dk : grads.k.mutable_data(),
            .dv = pointer<bf16>(grads.v),
            .dlog_decay = pointer<float>(grads.log_decay),
            .dbeta = pointer<float>(grads.beta)});
  if (!summed_later) return;
  const std::int64_t rows = tokens * p.key_heads;
  sum_groups(ctx, pointer<bf16>(grads.q), scratch.dq, rows, p.group(), p.key_width);
  sum_groups(ctx, pointer<bf16>(grads.k), scratch.dk, rows, p.group(), p.key_width);
}

void backward_scratch(Context& ctx, ops::GatedDeltaGradients, ops::GatedDeltaStateGradients, ConstTensor,
                      ops::GatedDeltaInputs in, ops::GatedDeltaSaved, ops::Segments segments, double scale) {
  const Arena::Scope scope(*ctx.scratch);
  make_backward_scratch(ctx, problem_of(in, segments, scale), in.q.shape[0]);
}

}  // namespace braid::cuda::chunked

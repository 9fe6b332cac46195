#include "braid/ops/attention.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {
namespace {

void check_inputs(const Checker& check, const AttentionInputs& in, const Segments& segments,
                  const AttentionOptions& options) {
  check.floating("q", in.q);
  check.rank("q", in.q, 3);
  check.rank("k", in.k, 3);
  check.tensor("k", in.k, in.q.dtype, {in.q.shape[0], in.k.shape[1], in.q.shape[2]});
  check.tensor("v", in.v, in.q.dtype, in.k.shape);
  check.that(in.k.shape[1] > 0 && in.q.shape[1] % in.k.shape[1] == 0,
             "{} query heads cannot share {} key/value heads evenly", in.q.shape[1], in.k.shape[1]);
  check.rank("segments.offsets", segments.offsets, 1);
  check.dtype("segments.offsets", segments.offsets, DType::i32);
  check.that(options.window >= 0, "window {} is negative", options.window);
}

}  // namespace

void attention_forward(Context& ctx, Tensor y, Tensor log_sum_exp, AttentionInputs in, Segments segments,
                       AttentionOptions options) {
  const Checker check("attention_forward");
  check_inputs(check, in, segments, options);
  check.tensor("y", y, in.q.dtype, in.q.shape);
  check.tensor("log_sum_exp", log_sum_exp, accumulator_of(in.q.dtype), {in.q.shape[0], in.q.shape[1]});
  implementation<&OpTable::attention_forward>(ctx)(ctx, y, log_sum_exp, in, segments, options);
}

void attention_backward(Context& ctx, AttentionGradients grads, ConstTensor dy, AttentionInputs in,
                        AttentionOutputs out, Segments segments, AttentionOptions options) {
  const Checker check("attention_backward");
  check_inputs(check, in, segments, options);
  check.tensor("dq", grads.q, in.q.dtype, in.q.shape);
  check.tensor("dk", grads.k, in.k.dtype, in.k.shape);
  check.tensor("dv", grads.v, in.v.dtype, in.v.shape);
  check.tensor("dy", dy, in.q.dtype, in.q.shape);
  check.tensor("y", out.y, in.q.dtype, in.q.shape);
  check.tensor("log_sum_exp", out.log_sum_exp, accumulator_of(in.q.dtype), {in.q.shape[0], in.q.shape[1]});
  implementation<&OpTable::attention_backward>(ctx)(ctx, grads, dy, in, out, segments, options);
}

void attention_cached(Context& ctx, Tensor y, KeyValueCache cache, AttentionInputs in, Segments segments,
                      ConstTensor lengths, AttentionOptions options) {
  const Checker check("attention_cached");
  check_inputs(check, in, segments, options);
  check.tensor("y", y, in.q.dtype, in.q.shape);
  check.rank("cache.k", cache.k, 4);
  check.tensor("cache.k", cache.k, in.k.dtype,
               {segments.count(), cache.k.shape[1], in.k.shape[1], in.k.shape[2]});
  check.tensor("cache.v", cache.v, in.v.dtype, cache.k.shape);
  check.tensor("lengths", lengths, DType::i32, {segments.count()});
  check.that(cache.longest.value_or(0) >= 0, "cache.longest {} is negative", cache.longest.value_or(0));
  implementation<&OpTable::attention_cached>(ctx)(ctx, y, cache, in, segments, lengths, options);
}

}  // namespace braid::ops

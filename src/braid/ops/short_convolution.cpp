#include "braid/ops/short_convolution.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {
namespace {

void check_split(const Checker& check, const QkvInputs& qkv, const ConstTensor& x,
                 const ConstTensor& weight) {
  check.rank("x", x, 2);
  check.rank("weight", weight, 2);
  check.that(weight.shape[1] >= 1, "weight is {}, expected at least one tap", describe(weight));
  check.tensor("weight", weight, accumulator_of(x.dtype), {x.shape[1], weight.shape[1]});
  for (const auto& [name, t] : {std::pair{"q", &qkv.q}, std::pair{"k", &qkv.k}, std::pair{"v", &qkv.v}}) {
    check.rank(name, *t, 2);
    check.tensor(name, *t, x.dtype, {x.shape[0], t->shape[1]});
  }
  check.that(qkv.q.shape[1] + qkv.k.shape[1] + qkv.v.shape[1] == x.shape[1],
             "q, k and v have {} + {} + {} channels, x has {}", qkv.q.shape[1], qkv.k.shape[1],
             qkv.v.shape[1], x.shape[1]);
}

}  // namespace

void short_convolution_forward(Context& ctx, QkvOutputs y, Tensor state, ConstTensor x, ConstTensor weight,
                               Segments segments) {
  const Checker check("short_convolution_forward");
  check_split(check, {y.q, y.k, y.v}, x, weight);
  if (state.defined()) {
    check.tensor("state", state, x.dtype, {segments.count(), weight.shape[1] - 1, x.shape[1]});
  }
  implementation<&OpTable::short_convolution_forward>(ctx)(ctx, y, state, x, weight, segments);
}

void short_convolution_backward(Context& ctx, Tensor dx, Tensor dweight, QkvInputs dqkv, ConstTensor x,
                                ConstTensor weight, Segments segments) {
  const Checker check("short_convolution_backward");
  check_split(check, dqkv, x, weight);
  check.tensor("dx", dx, x.dtype, x.shape);
  check.tensor("dweight", dweight, weight.dtype, weight.shape);
  implementation<&OpTable::short_convolution_backward>(ctx)(ctx, dx, dweight, dqkv, x, weight, segments);
}

}  // namespace braid::ops

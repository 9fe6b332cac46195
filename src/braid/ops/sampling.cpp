#include "braid/ops/sampling.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {

void sampling(Context& ctx, Tensor ids, SamplingInputs in, SamplingOptions options) {
  const Checker check("sampling");
  check.rank("logits", in.logits, 2);
  check.dtype("logits", in.logits, DType::f32);
  const Shape rows{in.logits.shape[0]};
  check.that(in.logits.shape[1] > 0, "no logits: they are {}", describe(in.logits));
  check.that(options.vocabulary >= 0 && options.vocabulary <= in.logits.shape[1],
             "vocabulary {} is not within the logits, {}", options.vocabulary, describe(in.logits));
  check.tensor("ids", ids, DType::i32, rows);
  check.tensor("uniform", in.uniform, DType::f64, rows);
  check.tensor("temperature", in.temperature, DType::f64, rows);
  check.tensor("top_k", in.top_k, DType::i64, rows);
  check.tensor("top_p", in.top_p, DType::f64, rows);
  check.tensor("min_p", in.min_p, DType::f64, rows);
  check.tensor("repetition_penalty", in.repetition_penalty, DType::f64, rows);
  check.rank("seen", in.seen, 1);
  check.dtype("seen", in.seen, DType::i32);
  check.tensor("seen_segments.offsets", in.seen_segments.offsets, DType::i32, {rows[0] + 1});
  if (options.vocabulary == 0) options.vocabulary = in.logits.shape[1];
  implementation<&OpTable::sampling>(ctx)(ctx, ids, in, options);
}

}  // namespace braid::ops

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {

void embedding_forward(Context& ctx, Tensor y, ConstTensor ids, ConstTensor table) {
  const Checker check("embedding_forward");
  check.rank("table", table, 2);
  check.tensor("ids", ids, DType::i32, {y.shape[0]});
  check.shape("y", y, {ids.shape[0], table.shape[1]});
  check.that(table.dtype == y.dtype || (table.dtype == DType::bf16 && y.dtype == DType::f32),
             "table is {}, expected the dtype of y ({}), or bf16 with f32", describe(table),
             name_of(y.dtype));
  implementation<&OpTable::embedding_forward>(ctx)(ctx, y, ids, table);
}

void embedding_backward(Context& ctx, Tensor dtable, ConstTensor dy, ConstTensor ids) {
  const Checker check("embedding_backward");
  check.rank("dtable", dtable, 2);
  check.floating("dy", dy);
  check.shape("dy", dy, {ids.shape[0], dtable.shape[1]});
  check.dtype("dtable", dtable, accumulator_of(dy.dtype));
  check.tensor("ids", ids, DType::i32, {dy.shape[0]});
  implementation<&OpTable::embedding_backward>(ctx)(ctx, dtable, dy, ids);
}

}  // namespace braid::ops

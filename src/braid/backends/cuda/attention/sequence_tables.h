// Small tables that a library's attention reads, made on the device from the segments.
#pragma once
#include "braid/core/context.h"
#include "braid/ops/segments.h"

namespace braid::cuda {

// i32. Lengths (S') of the sequences, and where each begins (S' + 1) as a count of elements of q, of k and of
// the statistics. S' >= segments.count(): the sequences past it are empty.
struct SequenceTables {
  Tensor lengths, begin_q, begin_kv, begin_statistics;
};
// Elements of one token.
struct TokenWidths {
  std::int64_t q, kv, statistics;
};
void make_sequence_tables(const Context& ctx, const SequenceTables& tables, const ops::Segments& segments,
                          const TokenWidths& widths);

// Copies log_sum_exp (N, H) to groups of heads: to (H / h, rows, h), or with `length` > 0 and N = rows = B ·
// length to (H / h, B, h, length).
void group_statistics(const Context& ctx, Tensor grouped, ConstTensor log_sum_exp, std::int64_t heads,
                      std::int64_t rows, std::int64_t length);

}  // namespace braid::cuda

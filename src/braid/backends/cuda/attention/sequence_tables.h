// Small tables that a library's attention reads, made on the device from the segments.
#pragma once
#include "braid/ops/attention.h"

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

// totals (S): tokens of each sequence after a call that adds its segment to the `lengths` (S) cached before,
// 0 where it adds none; at most `capacity`.
void make_totals(const Context& ctx, const Tensor& totals, const ops::Segments& segments, ConstTensor lengths,
                 std::int64_t capacity);

// Zeroes the slots after the last key of every sequence that has tokens in the call, as far as a tile of
// cuDNN reaches: hidden values are multiplied by 0, and what a slot that was never written holds may be NaN.
void clear_unused(const Context& ctx, const ops::KeyValueCache& cache, const Tensor& totals);

// Copies log_sum_exp (N, H) to groups of heads: to (H / h, rows, h), or with `length` > 0 and N = rows = B ·
// length to (H / h, B, h, length).
void group_statistics(const Context& ctx, Tensor grouped, ConstTensor log_sum_exp, std::int64_t heads,
                      std::int64_t rows, std::int64_t length);

}  // namespace braid::cuda

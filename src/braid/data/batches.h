// Batches of training instances as flat host arrays.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "braid/data/dataset.h"
#include "braid/data/order.h"
#include "braid/data/repetition.h"

namespace braid::data {

enum class DocumentMasking : bool { no, yes };
struct BatchOptions {
  TokenId end_of_text = -1;
  DocumentMasking document_masking = DocumentMasking::no;
  std::optional<RepetitionFilter> instance_filter = {};  // none: nothing is filtered
};

// `instances` rows of `sequence_length` tokens, N = instances · sequence_length in all.
// Targets are the next token of the same instance; -1 where there is none (the last position), where a label
// mask says that it is not to be predicted, and where it is padding. As in OLMo-core an end of text is
// trained to predict the first token of the next document, with document masking too, though it sees only the
// document that it closes. Segments are the instances, or with masking the documents within them (an instance
// says where they begin, or one ends after each end of text). The padding at the end of an instance is a
// segment of its own. An instance that the filter finds repetitive has no targets, but is counted in
// `predicted` as if it had.
struct Batch {
  std::int64_t instances = 0, sequence_length = 0;
  std::vector<std::int32_t> ids, targets;     // (N)
  std::vector<std::int32_t> positions;        // (N), from 0 in each segment
  std::vector<std::int32_t> segment_offsets;  // (segments + 1), from 0 to N
  std::vector<float> weights{};               // (N), of each token's loss in the gradients; empty: all 1
  // No segment is longer; what kernels are chosen by. 0: the longest that there is.
  std::int64_t longest_segment = 0;
  std::int64_t predicted = 0;  // targets that are not -1, and those the filter masked: what a mean divides by
  std::int64_t filtered = 0;   // instances that the filter masked
};

// The given instances, in that order.
Batch assemble(const Dataset& dataset, std::span<const std::int64_t> instances, BatchOptions options);
// Positions [first_position, first_position + count) of a run.
Batch assemble(const Dataset& dataset, const Order& order, std::int64_t first_position, std::int64_t count,
               BatchOptions options);
// Instances [first, first + count) in file order, fewer at the end of the dataset; for validation.
Batch assemble_sequential(const Dataset& dataset, std::int64_t first, std::int64_t count,
                          BatchOptions options);

}  // namespace braid::data

// What a step reads besides the model and its moments: in one piece of the backend's memory, by one copy.
#pragma once
#include <array>
#include <compare>

#include "braid/data/batches.h"
#include "braid/model/host_batch.h"

namespace braid::train {

// A part of a batch that goes through the model at once, as far as launches and memory depend on it.
struct PartShape {
  std::int64_t tokens = 0, segments = 0, longest = 0;
  bool weighted = false;  // data::Batch::weights
  auto operator<=>(const PartShape&) const = default;
  // Tensors without memory.
  model::Batch dry() const;
};

// Numbers that change from step to step: the weight of each token's loss, and ops::AdamWRates.
using StepNumbers = std::array<double, 4>;

class StepInputs {
 public:
  // Cuts the batch into parts of `rows` instances, the last of them maybe smaller. Where the tensors lie
  // follows from the parts' shapes alone. On a measuring arena nothing is copied.
  StepInputs(const Context&, Arena&, const data::Batch&, std::int64_t rows, const StepNumbers&);
  // Bytes for any batch of that many instances and tokens in each.
  static std::size_t most_bytes(std::int64_t instances, std::int64_t length);

  const std::vector<PartShape>& shapes() const { return shapes_; }
  std::int64_t tokens() const { return all_.ids.shape[0]; }
  std::int64_t first_token(std::size_t part) const { return first_[part]; }
  model::Batch part(std::size_t part) const;
  ConstTensor scale() const { return rows_of(numbers_, 0, 1); }  // (1) f64
  ConstTensor rates() const { return rows_of(numbers_, 1, 3); }  // (3) f64

 private:
  std::vector<PartShape> shapes_;
  std::vector<std::int64_t> first_, first_offset_;  // of each part: its first token, its place in offsets_
  model::Batch all_;
  ConstTensor offsets_, numbers_;
};

}  // namespace braid::train

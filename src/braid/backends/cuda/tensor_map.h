// Descriptions of tensors for the copy engine, which fetches boxes of them into shared memory.
#pragma once
#include <cuda.h>

#include <cstdint>
#include <vector>

#include "braid/core/tensor.h"

namespace braid::cuda {

// Of 16-bit elements, dimensions from the contiguous one on; all lists start with that one.
struct BoxedTensor {
  const void* data;                         // a multiple of 16
  std::vector<std::uint64_t> shape;         // two to five dimensions
  std::vector<std::uint64_t> stride_bytes;  // of all dimensions but the first; multiples of 16
  std::vector<std::uint32_t> box;           // at most 256 each; outside of the tensor a box has zeros
};

// Boxes whose first dimension is 128 or 64 bytes, their 16-byte packets permuted as the tensor cores like
// them.
CUtensorMap make_tensor_map(const BoxedTensor&);
// Of a 16-bit (rows, columns) tensor.
CUtensorMap make_matrix_map(const ConstTensor& t, int box_columns, int box_rows);

}  // namespace braid::cuda

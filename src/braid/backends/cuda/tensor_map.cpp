#include "braid/backends/cuda/tensor_map.h"

#include <cudaTypedefs.h>

#include "braid/backends/cuda/state.h"
#include "braid/core/error.h"

namespace braid::cuda {
namespace {

// The driver is not linked: a machine without one can still build and load the program.
PFN_cuTensorMapEncodeTiled_v12000 find_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check_cuda(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
      "cuTensorMapEncodeTiled");
  require(found == cudaDriverEntryPointSuccess,
          "the CUDA driver is too old: it has no cuTensorMapEncodeTiled");
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

}  // namespace

CUtensorMap make_tensor_map(const BoxedTensor& t) {
  static const auto encode = find_encoder();
  const std::vector<std::uint32_t> every(t.shape.size(), 1);
  CUtensorMap map;
  const CUresult result = encode(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<std::uint32_t>(t.shape.size()),
      const_cast<void*>(t.data), t.shape.data(), t.stride_bytes.data(), t.box.data(), every.data(),
      CU_TENSOR_MAP_INTERLEAVE_NONE, t.box[0] == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(result == CUDA_SUCCESS, "cuTensorMapEncodeTiled: error {}", static_cast<int>(result));
  return map;
}

CUtensorMap make_matrix_map(const ConstTensor& t, int box_columns, int box_rows) {
  const auto columns = static_cast<std::uint64_t>(t.shape[1]);
  return make_tensor_map(
      {.data = t.data,
       .shape = {columns, static_cast<std::uint64_t>(t.shape[0])},
       .stride_bytes = {columns * 2},
       .box = {static_cast<std::uint32_t>(box_columns), static_cast<std::uint32_t>(box_rows)}});
}

}  // namespace braid::cuda

// The scans by a warpgroup, and when they serve.
#pragma once
#include "braid/backends/cuda/gated_delta/chunked_kernels.h"
#include "braid/backends/cuda/tensor_map.h"

namespace braid::cuda::chunked {

// By warps of their own (mma.sync), for all widths; or by a warpgroup (wgmma).
enum class ScanPath : std::uint8_t { warp, warpgroup };

// A pure function of the shapes. The copy engine takes whole slices of 64 value columns, and keys without
// padding.
constexpr ScanPath choose_scan(const Problem& p) {
  const bool keys = p.key_width == 64 || p.key_width == 96 || p.key_width == 128;
  return keys && p.value_width % kSlice == 0 && p.tokens > 0 ? ScanPath::warpgroup : ScanPath::warp;
}

// The tensors as the copy engine sees them.
struct ScanTensors {
  CUtensorMap keys, queries;  // (32 columns, token, 32s of columns, head)
  CUtensorMap values;         // V or dO: (column, token, head)
  CUtensorMap written;        // (32 columns, token of the padded chunks, 32s of columns)
  CUtensorMap response;       // (column, token of the padded chunks)
};
ScanTensors scan_tensors(const Problem&, const Inputs&, const bf16* values, const Chunks&);

// As scan_forward.
void scan_forward_group(Context&, const Problem&, const Inputs&, const Chunks&, bf16* y, const ForwardStates&,
                        unsigned long long* saturated);
// As scan_backward.
void scan_backward_group(Context&, const Problem&, const Inputs&, const Chunks&, const bf16* dy, bf16* dv,
                         const BackwardStates&);

}  // namespace braid::cuda::chunked

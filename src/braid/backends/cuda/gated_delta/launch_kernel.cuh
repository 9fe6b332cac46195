// A launch with as much dynamic shared memory as the kernel asks for.
#pragma once
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {

template <class... Parameters, class... Arguments>
void launch_kernel(const Context& ctx, void (*kernel)(Parameters...), dim3 grid, int threads,
                   int shared_bytes, const Arguments&... arguments) {
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
             "gated_delta");
  kernel<<<grid, static_cast<unsigned>(threads), static_cast<std::size_t>(shared_bytes), stream_of(ctx)>>>(
      arguments...);
  check_launch("gated_delta");
}

}  // namespace braid::cuda

// Programmatic dependent launch: a kernel's blocks take their places while the kernel before it still runs,
// which hides launches and the ends of small kernels. Every thread of such a kernel calls begin_early()
// before it touches memory, and waits later where Context::fetch names something that may be read before;
// until then it may also prefetch into L2, which is coherent. A thread that touches nothing else need
// not wait, but some thread of every block does.
#pragma once
#include "braid/backends/cuda/launch.h"
#include "braid/backends/cuda/matmul/problem.h"

namespace braid::cuda {

// Lets the next kernel take its places.
__device__ __forceinline__ void let_next_start() { asm volatile("griddepcontrol.launch_dependents;"); }
// Until all kernels before this one are done and their writes are visible.
__device__ __forceinline__ void wait_for_earlier() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
// ahead: what follows up to the kernel's own wait reads only what Context::fetch names.
__device__ __forceinline__ void begin_early(bool ahead = false) {
  let_next_start();
  if (!ahead) wait_for_earlier();
}

struct EarlyLaunch {
  dim3 grid;
  int threads;
  std::size_t shared_bytes = 0;
  int cluster = 1;  // neighbouring blocks along x that run together
  // Rows of a small kernel between products (0: another kernel). A multiprocessor changes the part of its
  // memory that blocks share only when it is empty. So kernels beside the products of many rows, which share
  // nearly all of it, ask for the same: else they keep the next product's blocks from their multiprocessors.
  std::int64_t rows = 0;
};

// Launches a kernel that begins as described above.
template <class... P, class... A>
void launch_early(const Context& ctx, const char* op, void (*kernel)(P...), const EarlyLaunch& launch,
                  const A&... arguments) {
  cudaLaunchAttribute attributes[3] = {};
  unsigned count = 0;
  attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  if (launch.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {static_cast<unsigned>(launch.cluster), 1, 1};
  }
  if (launch.rows > kGemvRows) {
    attributes[count].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
    attributes[count++].val.sharedMemCarveout = cudaSharedmemCarveoutMaxShared;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = launch.grid;
  config.blockDim = dim3(static_cast<unsigned>(launch.threads));
  config.dynamicSmemBytes = launch.shared_bytes;
  config.stream = stream_of(ctx);
  config.attrs = attributes;
  config.numAttrs = count;
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...), op);
}

}  // namespace braid::cuda

#include "braid/backends/cuda/state.h"

namespace braid::cuda {

void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    fail("cuda: {}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail("cuda: {}: cuBLASLt says {}", what, cublasLtGetStatusString(status));
}

State::State() {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, 0), "device 0");
  require(properties.major == 9,
          "cuda: device 0 is {} (compute capability {}.{}), this build is for 9.0 (Hopper)", properties.name,
          properties.major, properties.minor);
  multiprocessors = properties.multiProcessorCount;
  shared_bytes = properties.sharedMemPerBlockOptin;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  check_blas(cublasLtCreate(&blas), "cublasLtCreate");
  check_cuda(cudaMalloc(&saturated, sizeof(*saturated)), "state");
  check_cuda(cudaMemsetAsync(saturated, 0, sizeof(*saturated), stream), "state");
  check_cuda(cudaMalloc(&meetings, kMeetings * sizeof(*meetings)), "state");
  check_cuda(cudaMemsetAsync(meetings, 0, kMeetings * sizeof(*meetings), stream), "state");
}

State::~State() {
  cudaStreamSynchronize(stream);
  attention_plans.reset();
  matmul_plans.reset();
  cudaFree(saturated);
  cudaFree(meetings);
  cublasLtDestroy(blas);
  cudaStreamDestroy(stream);
}

}  // namespace braid::cuda

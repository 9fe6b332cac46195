// What one CUDA device carries between calls: its stream, library handles and limits. One state serves one
// thread.
#pragma once
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <memory>

#include "braid/core/context.h"

namespace braid::cuda {

// Plans of the libraries, made once per problem. Defined beside the ops that use them.
struct MatmulPlans;
struct AttentionPlans;

struct State final : BackendState {
  State();
  ~State() override;
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  cudaStream_t stream = nullptr;
  cublasLtHandle_t blas = nullptr;
  int multiprocessors = 0;
  std::size_t shared_bytes = 0;  // of one block, at most
  std::unique_ptr<MatmulPlans, void (*)(MatmulPlans*)> matmul_plans{nullptr, nullptr};
  std::unique_ptr<AttentionPlans, void (*)(AttentionPlans*)> attention_plans{nullptr, nullptr};
  // Values that the delta rule had to clamp to f16's range, counted on the device since the state was made.
  unsigned long long* saturated = nullptr;
  // Counters of blocks that meet (attention/decode.cu, decode_stream.cu): zeros between kernels.
  static constexpr std::int64_t kMeetings = 1 << 20;
  std::uint32_t* meetings = nullptr;
};

inline State& state_of(const Context& ctx) { return static_cast<State&>(*ctx.state); }
inline cudaStream_t stream_of(const Context& ctx) { return state_of(ctx).stream; }

// Throws with the name of the call or op when `error` is one.
void check_cuda(cudaError_t error, const char* what = __builtin_FUNCTION());
void check_blas(cublasStatus_t status, const char* what = __builtin_FUNCTION());
// After every launch.
inline void check_launch(const char* what = __builtin_FUNCTION()) { check_cuda(cudaGetLastError(), what); }

}  // namespace braid::cuda

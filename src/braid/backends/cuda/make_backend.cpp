#include <fstream>

#include "braid/backends/backends.h"
#include "braid/backends/cuda/attention/cudnn.h"
#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/pinned_copies.h"
#include "braid/backends/cuda/state.h"

namespace braid::cuda {
namespace {

class DeviceMemory final : public Memory {
 public:
  explicit DeviceMemory(std::shared_ptr<State> state) : state_(std::move(state)) {}

  Device device() const override { return Device::cuda; }
  std::size_t available() const override {
    std::size_t free = 0, total = 0;
    check_cuda(cudaMemGetInfo(&free, &total), "memory");
    constexpr std::size_t kReserve = std::size_t{1} << 29;  // for code that is loaded when it first runs
    return free > kReserve ? free - kReserve : 0;
  }
  std::byte* allocate(std::size_t bytes) override {
    void* data = nullptr;
    if (cudaMalloc(&data, bytes) != cudaSuccess) {
      cudaGetLastError();
      std::size_t available = 0, total = 0;
      check_cuda(cudaMemGetInfo(&available, &total), "memory");
      fail("out of GPU memory: cannot allocate {} bytes, {} of {} are free", bytes, available, total);
    }
    zero(data, bytes);
    return static_cast<std::byte*>(data);
  }
  void release(std::byte* data, std::size_t) noexcept override {
    cudaStreamSynchronize(state_->stream);
    cudaFree(data);
  }
  void write(void* to, const void* host, std::size_t bytes) override {
    if (bytes != 0) writes_.write(state_->stream, to, host, bytes);
  }
  void read(void* host, const void* from, std::size_t bytes) override {
    reads_.read(state_->stream, host, from, bytes);
  }
  void zero(void* data, std::size_t bytes) override {
    if (bytes != 0) check_cuda(cudaMemsetAsync(data, 0, bytes, state_->stream), "memset");
  }

 private:
  std::shared_ptr<State> state_;
  PinnedWrites writes_;
  PinnedRead reads_;
};

class Graph final : public Recording {
 public:
  Graph(std::shared_ptr<State> state, const std::function<void()>& work) : state_(std::move(state)) {
    check_cuda(cudaStreamBeginCapture(state_->stream, cudaStreamCaptureModeThreadLocal),
               "begin of a recording");
    try {
      work();
    } catch (...) {
      cudaGraph_t unfinished = nullptr;
      cudaStreamEndCapture(state_->stream, &unfinished);
      if (unfinished != nullptr) cudaGraphDestroy(unfinished);
      throw;
    }
    cudaGraph_t graph = nullptr;
    check_cuda(cudaStreamEndCapture(state_->stream, &graph), "end of a recording");
    const auto made = cudaGraphInstantiate(&graph_, graph, 0);
    cudaGraphDestroy(graph);
    check_cuda(made, "recording");
  }
  ~Graph() override {
    cudaStreamSynchronize(state_->stream);
    cudaGraphExecDestroy(graph_);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void replay() override { check_cuda(cudaGraphLaunch(graph_, state_->stream), "replay"); }

 private:
  std::shared_ptr<State> state_;
  cudaGraphExec_t graph_ = nullptr;
};

// "driver 580.159.03, CUDA 13.0, cuBLASLt 130100, cuDNN 91900"
std::string library_versions() {
  int runtime = 0, supported = 0;
  check_cuda(cudaRuntimeGetVersion(&runtime), "version");
  check_cuda(cudaDriverGetVersion(&supported), "version");
  const auto dotted = [](int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); };
  std::string driver;  // the kernel's module tells the exact one, where it can be seen
  std::ifstream module("/sys/module/nvidia/version");
  if (!(module >> driver)) driver = "for CUDA " + dotted(supported);
  const auto cudnn = cudnn::version();
  return fmt::format("driver {}, CUDA {}, cuBLASLt {}, {}", driver, dotted(runtime), cublasLtGetVersion(),
                     cudnn == 0 ? "no cuDNN" : fmt::format("cuDNN {}", cudnn));
}

}  // namespace

bool available() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    cudaGetLastError();
    return false;
  }
  int major = 0;
  return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess && major == 9;
}

Backend make_backend() {
  int count = 0;
  const auto error = cudaGetDeviceCount(&count);
  require(error == cudaSuccess && count > 0, "cuda: no GPU can be used: {}", cudaGetErrorString(error));
  auto state = std::make_shared<State>();
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, 0), "device 0");
  Backend b{.name = "cuda",
            .description = fmt::format("cuda, {}, {} multiprocessors, {}", properties.name,
                                       state->multiprocessors, library_versions()),
            .device = Device::cuda,
            .ops = *op_table(),
            .dry = dry::op_table(scratch_table()),
            .state = state,
            .arithmetic = Arithmetic::fast,
            .memory = std::make_shared<DeviceMemory>(state)};
  b.count_events = [state, memory = b.memory] {
    unsigned long long saturated = 0;
    memory->read(&saturated, state->saturated, sizeof(saturated));
    return NumericalEvents{.saturated = saturated};
  };
  b.record = [state](const std::function<void()>& work) { return std::make_unique<Graph>(state, work); };
  return b;
}

}  // namespace braid::cuda

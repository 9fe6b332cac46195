// Weights in Hugging Face model directories: every naming generation and layout that was seen, read by
// content.
#pragma once
#include "braid/io/safetensors.h"
#include "braid/model/parameters.h"

namespace braid::model {

// Fills `p` (already made for `config`, in `memory`) from the files, converting between f32, bf16, f16 and
// f64. Every parameter must be there with the right shape, and nothing else may be; errors name folder and
// tensor.
void load_weights(const Parameters& p, const ModelConfig& config, const io::TensorFiles& files,
                  Memory& memory = *host_memory());

// The same one parameter at a time, so that a model need not fit into memory. `files` and `config` must
// outlive it.
class WeightReader {
 public:
  WeightReader(const io::TensorFiles& files, const ModelConfig& config);
  ~WeightReader();
  WeightReader(const WeightReader&) = delete;
  WeightReader& operator=(const WeightReader&) = delete;

  // Fills parameter.tensor, which lies in host memory.
  void read(const NamedParameter& parameter);
  // After the last parameter: whatever else the files hold is an error.
  void finish() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Tensors under transformers' in-memory names (fused `conv1d`), views into `p`; shapes as PyTorch has them.
std::vector<io::NamedTensor> memory_tensors(const Parameters& p, const ModelConfig& config);
// Tensors under the published file names (`q_conv1d`, `attention_layer_norm` …), views into `p`.
std::vector<io::NamedTensor> file_tensors(const Parameters& p, const ModelConfig& config);
std::vector<io::NamedTensor> file_tensors(const NamedParameter& parameter, const ModelConfig& config);

struct SaveOptions {
  DType dtype = DType::f32;                            // f32, bf16 or f16; A_log and dt_bias stay f32
  std::size_t max_shard_bytes = std::size_t{5} << 30;  // 0: one file
};
// Writes config.json and the weights, which lie in host memory, into `folder` (made if missing), each file
// atomically. Returns what io::write_checksums() needs when the folder is whole.
io::TensorChecksums save_model(const io::fs::path& folder, const Parameters& p, const ModelConfig& config,
                               SaveOptions options);

// A loaded model: config and parameters with their memory.
struct Model {
  ModelConfig config;
  ParameterSet parameters;
};
// Reads a model directory into `memory`; large matrices are kept in `types.matrix`. Where it has checksums
// every byte is verified first.
Model load_model(const io::fs::path& folder, ParameterTypes types,
                 std::shared_ptr<Memory> memory = host_memory());

}  // namespace braid::model

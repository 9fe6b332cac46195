// The model's parameters as one tree of tensors over one flat buffer; gradients and optimiser moments are the
// same tree over buffers of their own.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "braid/model/block.h"

namespace braid::model {

struct Parameters {
  Tensor embedding;  // (V, C)
  std::vector<Block::Params> blocks;
  Tensor final_norm;  // (C)
  Tensor head;        // (V, C); undefined when tied
  const Tensor& output_head() const { return head.defined() ? head : embedding; }
};

// Names are transformers' in-memory names ("model.layers.3.self_attn.q_proj.weight").
using ParameterVisitor = std::function<void(const nn::ParameterSpec&, Tensor&)>;
// Calls fn for every parameter, in the order of the flat buffer: embedding, blocks, final norm, head.
void visit(Parameters& p, const ModelConfig& config, const ParameterVisitor& fn);

struct NamedParameter {
  nn::ParameterSpec spec;
  Tensor tensor;
};
std::vector<NamedParameter> list(const Parameters& p, const ModelConfig& config);

// One storage type for everything small and sensitive, one for the large matrices and the embedding.
struct ParameterTypes {
  DType precise = DType::f32, matrix = DType::f32;
};
Parameters make_parameters(const ModelConfig& config, Arena& arena, ParameterTypes types);

// A parameter tree with its memory.
class ParameterSet {
 public:
  ParameterSet() = default;
  ParameterSet(const ModelConfig& config, ParameterTypes types,
               std::shared_ptr<Memory> memory = host_memory());
  const Parameters& tree() const { return tree_; }
  Memory& memory() const { return *buffer_.memory(); }
  // A copy in another kind of memory; host memory is one of the two.
  ParameterSet copy_in(const std::shared_ptr<Memory>& memory, const ModelConfig& config) const;
  // The whole buffer as one tensor, gaps (zeros) included. Only when all parameters have one dtype.
  Tensor flat() const;
  std::size_t bytes() const { return buffer_.bytes(); }

 private:
  Buffer buffer_;
  Parameters tree_;
  ParameterTypes types_;
};

// Parameters that can be read on the host: the set's own where it lies there, else a copy.
class HostParameters {
 public:
  HostParameters(const ParameterSet& set, const ModelConfig& config);
  const Parameters& tree() const { return tree_; }

 private:
  ParameterSet copy_;
  Parameters tree_;
};

// The tree that the layers compute with in bf16: matrices and embedding in a buffer of their own, everything
// precise is `master`'s own memory.
class ComputeCopy {
 public:
  ComputeCopy() = default;
  ComputeCopy(const ModelConfig& config, const Parameters& master, std::shared_ptr<Memory> memory);
  const Parameters& tree() const { return tree_; }
  std::size_t bytes() const { return buffer_.bytes(); }

 private:
  Buffer buffer_;
  Parameters tree_;
};

// Fills the tree, which lies in `memory`, with initial values: value i of a parameter depends on the seed and
// its name alone.
void initialize(const Parameters& p, const ModelConfig& config, std::uint64_t seed,
                Memory& memory = *host_memory());

}  // namespace braid::model

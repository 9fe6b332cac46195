#include "braid/model/parameters.h"

#include <cmath>

#include "braid/core/random.h"

namespace braid::model {
namespace {

using nn::Initializer;
using nn::ParameterRole;
using nn::ParameterSpec;

// A visitor that puts `prefix` before every name.
auto prefixed(const ParameterVisitor& fn, std::string prefix) {
  return [&fn, prefix = std::move(prefix)](ParameterSpec spec, Tensor& t) {
    spec.name = prefix + spec.name;
    for (auto& part : spec.parts) part.name = prefix + part.name;
    fn(spec, t);
  };
}

void visit_norm(const ParameterVisitor& fn, const std::string& name, std::int64_t width, Tensor& t) {
  fn({name, {width}, Initializer::ones, ParameterRole::precise}, t);
}

void visit_block(Block::Params& p, const ModelConfig& c, LayerType type, const std::string& prefix,
                 const ParameterVisitor& fn) {
  const bool linear = type == LayerType::linear_attention;
  const bool pre = (linear ? c.linear.norm : c.attention.norm) == NormPlacement::pre;
  const std::string first = pre ? "input_layernorm.weight" : "post_attention_layernorm.weight";
  const std::string second = pre ? "post_attention_layernorm.weight" : "post_feedforward_layernorm.weight";
  visit_norm(fn, prefix + first, c.hidden_size, p.mixer_norm);
  if (linear) {
    if (!std::holds_alternative<nn::GatedDeltaNet::Params>(p.mixer)) p.mixer = nn::GatedDeltaNet::Params{};
    nn::GatedDeltaNet::visit(std::get<nn::GatedDeltaNet::Params>(p.mixer), linear_shape(c),
                             prefixed(fn, prefix + "linear_attn."));
  } else {
    if (!std::holds_alternative<nn::Attention::Params>(p.mixer)) p.mixer = nn::Attention::Params{};
    nn::Attention::visit(std::get<nn::Attention::Params>(p.mixer), attention_shape(c),
                         prefixed(fn, prefix + "self_attn."));
  }
  visit_norm(fn, prefix + second, c.hidden_size, p.mlp_norm);
  nn::Mlp::visit(p.mlp, {c.hidden_size, c.intermediate_size}, prefixed(fn, prefix + "mlp."));
}

// FNV-1a: a stable number for a name.
std::uint64_t stream_of(const std::string& name) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return h;
}

double draw(Initializer initializer, Random& random, std::int64_t fan_in) {
  switch (initializer) {
    case Initializer::ones:
      return 1;
    case Initializer::normal:
      return 0.02 * random.truncated_normal(3);
    case Initializer::fan_in_uniform:
      return (2 * random.uniform() - 1) / std::sqrt(static_cast<double>(fan_in));
    case Initializer::a_log:
      return std::log(16 * (1 - random.uniform()));
    case Initializer::dt_bias: {
      const double low = std::log(1e-3), high = std::log(0.1);
      const double dt = std::max(std::exp(low + (high - low) * random.uniform()), 1e-4);
      return dt + std::log(-std::expm1(-dt));
    }
  }
  return 0;
}

template <class T>
void fill(const ParameterSpec& spec, const Tensor& t, std::uint64_t seed) {
  const auto fan_in = spec.shape[-1];
  // Fused parameters draw each part from its own stream, so that fusing is not visible in the values.
  const auto row = spec.shape.rank > 1 ? spec.shape.count() / spec.shape[0] : 1;
  auto parts = spec.parts;
  if (parts.empty()) parts.push_back({spec.name, spec.shape[0]});
  T* out = t.as<T>();
  for (const auto& part : parts) {
    Random random(seed, stream_of(part.name));
    for (std::int64_t i = 0; i < part.rows * row; ++i)
      *out++ = static_cast<T>(draw(spec.initializer, random, fan_in));
  }
}

}  // namespace

void visit(Parameters& p, const ModelConfig& c, const ParameterVisitor& fn) {
  p.blocks.resize(c.layers.size());
  fn({"model.embed_tokens.weight",
      {c.vocabulary_size, c.hidden_size},
      Initializer::normal,
      ParameterRole::embedding},
     p.embedding);
  for (std::size_t i = 0; i < c.layers.size(); ++i) {
    visit_block(p.blocks[i], c, c.layers[i], "model.layers." + std::to_string(i) + ".", fn);
  }
  visit_norm(fn, "model.norm.weight", c.hidden_size, p.final_norm);
  if (!c.tied_embeddings) fn({.name = "lm_head.weight", .shape = {c.vocabulary_size, c.hidden_size}}, p.head);
}

std::vector<NamedParameter> list(const Parameters& p, const ModelConfig& config) {
  Parameters copy = p;
  std::vector<NamedParameter> all;
  visit(copy, config, [&](const ParameterSpec& spec, Tensor& t) { all.push_back({spec, t}); });
  return all;
}

Parameters make_parameters(const ModelConfig& config, Arena& arena, ParameterTypes types) {
  Parameters p;
  visit(p, config, [&](const ParameterSpec& spec, Tensor& t) {
    t = arena.make(spec.role == ParameterRole::precise ? types.precise : types.matrix, spec.shape);
  });
  return p;
}

ParameterSet::ParameterSet(const ModelConfig& config, ParameterTypes types, std::shared_ptr<Memory> memory)
    : types_(types) {
  Arena measure = Arena::measuring();
  make_parameters(config, measure, types);
  buffer_ = Buffer(measure.peak(), std::move(memory));
  Arena arena(buffer_);
  tree_ = make_parameters(config, arena, types);
}

ParameterSet ParameterSet::copy_in(const std::shared_ptr<Memory>& there, const ModelConfig& config) const {
  ParameterSet copy(config, types_, there);
  if (there->device() == Device::cpu) {
    memory().read(copy.buffer_.data(), buffer_.data(), buffer_.bytes());
  } else {
    there->write(copy.buffer_.data(), buffer_.data(), buffer_.bytes());
  }
  return copy;
}

HostParameters::HostParameters(const ParameterSet& set, const ModelConfig& config) : tree_(set.tree()) {
  if (set.memory().device() == Device::cpu) return;
  copy_ = set.copy_in(host_memory(), config);
  tree_ = copy_.tree();
}

ComputeCopy::ComputeCopy(const ModelConfig& config, const Parameters& master,
                         std::shared_ptr<Memory> memory) {
  const auto make = [&](Arena& arena) {
    tree_ = master;
    visit(tree_, config, [&](const ParameterSpec& spec, Tensor& t) {
      if (spec.role != ParameterRole::precise) t = arena.make(DType::bf16, spec.shape);
    });
  };
  Arena measure = Arena::measuring();
  make(measure);
  buffer_ = Buffer(measure.peak(), std::move(memory));
  Arena arena(buffer_);
  make(arena);
}

Tensor ParameterSet::flat() const {
  require(types_.precise == types_.matrix, "parameters of two dtypes ({} and {}) have no flat view",
          name_of(types_.precise), name_of(types_.matrix));
  Tensor t;
  t.data = buffer_.data();
  t.dtype = types_.precise;
  t.device = buffer_.device();
  t.shape = {static_cast<std::int64_t>(buffer_.bytes() / size_of(types_.precise))};
  return t;
}

void initialize(const Parameters& p, const ModelConfig& config, std::uint64_t seed, Memory& memory) {
  for (const auto& [spec, tensor] : list(p, config)) {
    const auto* s = &spec;
    Tensor host = tensor;
    Buffer staging;
    if (tensor.device != Device::cpu) {
      staging = Buffer(tensor.bytes());
      host.device = Device::cpu;
      host.data = staging.data();
    }
    visit_float(tensor.dtype, [&]<class T>() { fill<T>(*s, host, seed); });
    if (tensor.device != Device::cpu) memory.write(Tensor{tensor}.mutable_data(), host.data, host.bytes());
  }
}

}  // namespace braid::model

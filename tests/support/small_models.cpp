#include "tests/support/small_models.h"

#include "braid/core/random.h"
#include "braid/model/presets.h"

namespace braid::test {
namespace {

using model::LayerType;

model::ModelConfig base() {
  model::ModelConfig c;
  c.vocabulary_size = 96;
  c.hidden_size = 48;
  c.intermediate_size = 80;
  c.attention.heads = c.attention.kv_heads = 4;
  c.attention.head_dim = 12;
  c.attention.window = 16;
  c.linear.key_heads = c.linear.value_heads = 4;
  c.linear.key_dim = 12;
  c.linear.value_dim = 24;
  c.max_positions = 512;
  c.eos_ids = {1};
  c.layers = model::layer_pattern(model::Variant::hybrid_3_1, 4);
  return c;
}

}  // namespace

std::vector<SmallModel> small_models() {
  std::vector<SmallModel> all{{"hybrid", base()}};
  auto grouped = base();
  grouped.attention.kv_heads = 2;
  grouped.linear.key_heads = 2;
  grouped.linear.key_dim = 10;
  grouped.linear.value_dim = 20;
  grouped.linear.negative_eigenvalues = false;
  grouped.linear.convolution_width = 3;
  grouped.layers = {LayerType::full_attention, LayerType::linear_attention, LayerType::linear_attention};
  grouped.tied_embeddings = true;
  all.push_back({"grouped", grouped});
  auto windowed = base();
  windowed.layers = model::layer_pattern(model::Variant::transformer, 4);
  windowed.attention.rope_full = {
      .type = model::RopeType::yarn, .factor = 4, .original_context = 32, .attention_factor = 1.14};
  all.push_back({"windowed", windowed});
  auto gdn = base();
  gdn.layers = model::layer_pattern(model::Variant::gdn, 2);
  gdn.linear.output_gate = false;
  all.push_back({"gdn", gdn});
  auto bare = base();
  bare.attention.rope_full.type = model::RopeType::none;
  bare.attention.norm = model::NormPlacement::pre;
  bare.layers = {LayerType::linear_attention, LayerType::full_attention};
  all.push_back({"no-positions", bare});
  return all;
}

model::ParameterSet small_parameters(const model::ModelConfig& config, std::uint64_t seed) {
  model::ParameterSet p(config, {});
  model::initialize(p.tree(), config, seed);
  Random random(seed, 99);
  for (const auto& [spec, t] : model::list(p.tree(), config)) {
    const bool norm = spec.initializer == nn::Initializer::ones;
    for (std::int64_t i = 0; i < t.count(); ++i) {
      float& x = t.as<float>()[i];
      x += static_cast<float>((norm ? 0.2 : 0.05) * random.normal());
    }
  }
  return p;
}

std::vector<std::int32_t> small_ids(std::int64_t count, std::int64_t vocabulary, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocabulary))));
  }
  return ids;
}

}  // namespace braid::test

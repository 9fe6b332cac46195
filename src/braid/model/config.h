// One description for every stack of attention and Gated DeltaNet layers: Olmo Hybrid, Olmo 3, pure GDN and
// the paper's ablations.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "braid/nn/parameters.h"

namespace braid::model {

enum class LayerType : std::uint8_t { linear_attention, full_attention, sliding_attention };
std::string_view name_of(LayerType type);

// Where a block's two norms sit: before each sublayer, or on its output (Olmo 3's reordered norm).
enum class NormPlacement : std::uint8_t { pre, post };

enum class RopeType : std::uint8_t { none, standard, yarn };
struct RopeConfig {
  RopeType type = RopeType::standard;
  double theta = 500000;
  // YaRN (Peng et al. 2023); unused otherwise.
  double factor = 1;
  std::int64_t original_context = 0;
  double beta_fast = 32, beta_slow = 1;
  double attention_factor = 1;  // multiplies cos and sin
  bool truncate = true;         // round the ramp's ends to whole dimensions
  bool operator==(const RopeConfig&) const = default;
};

struct AttentionConfig {
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t window = 0;  // tokens a sliding_attention layer sees, itself included
  RopeConfig rope_full{}, rope_sliding{};
  NormPlacement norm = NormPlacement::post;
  bool operator==(const AttentionConfig&) const = default;
};

struct LinearAttentionConfig {
  std::int64_t key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;  // widths per head
  std::int64_t convolution_width = 4;
  bool negative_eigenvalues = true;  // beta in (0, 2) instead of (0, 1)
  bool output_gate = true;
  NormPlacement norm = NormPlacement::pre;
  nn::Initializer initializer = nn::Initializer::fan_in_uniform;
  bool operator==(const LinearAttentionConfig&) const = default;
};

struct ModelConfig {
  std::int64_t vocabulary_size = 0, hidden_size = 0, intermediate_size = 0;
  std::vector<LayerType> layers;
  AttentionConfig attention;
  LinearAttentionConfig linear;
  double norm_epsilon = 1e-6;
  bool tied_embeddings = false;
  std::int64_t max_positions = 8192;
  std::optional<std::int64_t> bos_id, pad_id;
  std::vector<std::int64_t> eos_ids;

  std::int64_t count(LayerType type) const;
  bool has_attention() const {
    return count(LayerType::linear_attention) != static_cast<std::int64_t>(layers.size());
  }
  bool has_linear() const { return count(LayerType::linear_attention) != 0; }
  // Throws, naming `source` and the field, when sizes do not fit together.
  void validate(const std::string& source) const;
  bool operator==(const ModelConfig&) const = default;
};

inline constexpr double kOutputNormEpsilon = 1e-5;  // GDN output norm, whatever norm_epsilon says

}  // namespace braid::model

#include "braid/model/config.h"

#include <algorithm>

#include "braid/core/error.h"

namespace braid::model {
namespace {

// Rejects sizes whose products could overflow later arithmetic.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 24;

void check_size(const std::string& source, std::string_view field, std::int64_t value) {
  require(value >= 1 && value <= kMaxSize, "{}: {} is {}, expected 1 to {}", source, field, value, kMaxSize);
}

void check_attention(const ModelConfig& c, const std::string& source) {
  const auto& a = c.attention;
  check_size(source, "num_attention_heads", a.heads);
  check_size(source, "num_key_value_heads", a.kv_heads);
  check_size(source, "head_dim", a.head_dim);
  require(a.heads % a.kv_heads == 0, "{}: num_attention_heads {} is not a multiple of num_key_value_heads {}",
          source, a.heads, a.kv_heads);
  check_size(source, "attention width (num_attention_heads * head_dim)", a.heads * a.head_dim);
  if (c.count(LayerType::sliding_attention) != 0) check_size(source, "sliding_window", a.window);
  for (const auto* rope : {&a.rope_full, &a.rope_sliding}) {
    if (rope->type == RopeType::none) continue;
    require(a.head_dim % 2 == 0, "{}: head_dim {} is odd, rotary positions need an even one", source,
            a.head_dim);
    require(rope->theta > 1, "{}: rope_theta {} must be above 1", source, rope->theta);
    if (rope->type != RopeType::yarn) continue;
    require(rope->factor >= 1, "{}: YaRN factor {} must be at least 1", source, rope->factor);
    check_size(source, "original_max_position_embeddings", rope->original_context);
    require(rope->beta_fast > rope->beta_slow && rope->beta_slow > 0,
            "{}: YaRN needs beta_fast {} > beta_slow {} > 0", source, rope->beta_fast, rope->beta_slow);
    require(rope->attention_factor > 0, "{}: YaRN attention_factor {} must be positive", source,
            rope->attention_factor);
  }
}

void check_linear(const ModelConfig& c, const std::string& source) {
  const auto& l = c.linear;
  check_size(source, "linear_num_key_heads", l.key_heads);
  check_size(source, "linear_num_value_heads", l.value_heads);
  check_size(source, "linear_key_head_dim", l.key_dim);
  check_size(source, "linear_value_head_dim", l.value_dim);
  require(l.value_heads % l.key_heads == 0,
          "{}: linear_num_value_heads {} is not a multiple of linear_num_key_heads {}", source, l.value_heads,
          l.key_heads);
  require(l.convolution_width >= 1 && l.convolution_width <= 64,
          "{}: linear_conv_kernel_dim is {}, expected 1 to 64", source, l.convolution_width);
  check_size(source, "linear value width (heads * head_dim)", l.value_heads * l.value_dim);
  check_size(source, "linear key width (heads * head_dim)", l.key_heads * l.key_dim);
}

}  // namespace

std::string_view name_of(LayerType type) {
  constexpr std::string_view names[] = {"linear_attention", "full_attention", "sliding_attention"};
  return names[static_cast<std::size_t>(type)];
}

std::int64_t ModelConfig::count(LayerType type) const { return std::ranges::count(layers, type); }

void ModelConfig::validate(const std::string& source) const {
  check_size(source, "vocab_size", vocabulary_size);
  check_size(source, "hidden_size", hidden_size);
  check_size(source, "intermediate_size", intermediate_size);
  check_size(source, "max_position_embeddings", max_positions);
  require(!layers.empty() && layers.size() <= 4096, "{}: num_hidden_layers is {}, expected 1 to 4096", source,
          layers.size());
  require(norm_epsilon > 0 && norm_epsilon < 1, "{}: rms_norm_eps {} must lie in (0, 1)", source,
          norm_epsilon);
  if (has_attention()) check_attention(*this, source);
  if (has_linear()) check_linear(*this, source);
  for (const auto& id : {bos_id, pad_id}) {
    require(!id || (*id >= 0 && *id < kMaxSize), "{}: special token id {} is out of range", source,
            id.value_or(0));
  }
  for (const auto id : eos_ids) {
    require(id >= 0 && id < kMaxSize, "{}: eos_token_id {} is out of range", source, id);
  }
}

}  // namespace braid::model

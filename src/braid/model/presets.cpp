#include "braid/model/presets.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

namespace braid::model {
namespace {

constexpr std::array kSizes = {LadderSize{"60m", 384, 8, 8},     LadderSize{"100m", 512, 8, 12},
                               LadderSize{"190m", 768, 12, 12},  LadderSize{"370m", 1024, 16, 16},
                               LadderSize{"600m", 1280, 16, 16}, LadderSize{"760m", 1536, 16, 16},
                               LadderSize{"1b", 2048, 16, 16}};
constexpr std::array kVariants = {Variant::transformer, Variant::gdn,        Variant::hybrid_3_1,
                                  Variant::hybrid_1_1,  Variant::hybrid_7_1, Variant::hybrid_middle};

constexpr std::int64_t kVocabulary = 100352, kEos = 100257, kPad = 100277;  // dolma2, padded to 128s

constexpr std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

ModelConfig dolma2_config(std::int64_t hidden, std::int64_t intermediate) {
  ModelConfig c;
  c.vocabulary_size = kVocabulary;
  c.hidden_size = hidden;
  c.intermediate_size = intermediate;
  c.pad_id = kPad;
  c.eos_ids = {kEos};
  return c;
}

ModelConfig olmo_hybrid_7b() {
  ModelConfig c = dolma2_config(3840, 11008);
  c.layers = layer_pattern(Variant::hybrid_3_1, 32);
  c.attention = {.heads = 30, .kv_heads = 30, .head_dim = 128};
  c.linear = {.key_heads = 30, .value_heads = 30, .key_dim = 96, .value_dim = 192};
  c.max_positions = 8192;
  return c;
}

ModelConfig olmo3_7b() {
  ModelConfig c = dolma2_config(4096, 11008);
  c.layers = layer_pattern(Variant::transformer, 32);
  c.attention = {.heads = 32, .kv_heads = 32, .head_dim = 128, .window = 4096};
  c.max_positions = 8192;
  return c;
}

std::vector<LayerType> every(std::int64_t period, std::int64_t layers, LayerType other) {
  std::vector<LayerType> pattern(static_cast<std::size_t>(layers), other);
  for (auto i = period - 1; i < layers; i += period)
    pattern[static_cast<std::size_t>(i)] = LayerType::full_attention;
  return pattern;
}

}  // namespace

std::span<const LadderSize> ladder_sizes() { return kSizes; }
std::span<const Variant> all_variants() { return kVariants; }

std::string_view name_of(Variant variant) {
  constexpr std::string_view names[] = {"transformer", "gdn",        "hybrid-3:1",
                                        "hybrid-1:1",  "hybrid-7:1", "hybrid-middle"};
  return names[static_cast<std::size_t>(variant)];
}

std::optional<Variant> parse_variant(std::string_view name) {
  for (const auto v : kVariants) {
    const auto full = name_of(v);
    if (name == full || (full.starts_with("hybrid-") && name == full.substr(7))) return v;
  }
  if (name == "hybrid") return Variant::hybrid_3_1;
  return std::nullopt;
}

std::vector<LayerType> layer_pattern(Variant variant, std::int64_t layers) {
  const auto linear = LayerType::linear_attention;
  std::vector<LayerType> pattern;
  switch (variant) {
    case Variant::transformer:
      return every(4, layers, LayerType::sliding_attention);
    case Variant::gdn:
      return std::vector<LayerType>(static_cast<std::size_t>(layers), linear);
    case Variant::hybrid_3_1:
      pattern = every(4, layers, linear);
      break;
    case Variant::hybrid_1_1:
      pattern = every(2, layers, linear);
      break;
    case Variant::hybrid_7_1:
      pattern = every(8, layers, linear);
      break;
    case Variant::hybrid_middle: {
      // ⌊L/4⌋ attention layers in the middle (paper section 5.1).
      pattern.assign(static_cast<std::size_t>(layers), linear);
      const auto count = layers / 4, first = (layers - count) / 2;
      std::fill_n(pattern.begin() + first, count, LayerType::full_attention);
      break;
    }
  }
  pattern.back() = LayerType::full_attention;
  return pattern;
}

ModelConfig ladder_config(const LadderSize& size, Variant variant) {
  // Rules that reproduce the paper's parameter counts: FFN ⌈1.5 · 8d/3⌉ up to a multiple of 256; GDN key
  // width 0.75 · d/h up to a multiple of 128, values twice that.
  const auto d = size.hidden_size, head = d / size.heads;
  const auto key = round_up(static_cast<std::int64_t>(std::ceil(0.75 * static_cast<double>(head))), 128);
  ModelConfig c = dolma2_config(d, round_up(4 * d, 256));
  c.layers = layer_pattern(variant, size.layers);
  if (c.has_attention()) c.attention = {.heads = size.heads, .kv_heads = size.heads, .head_dim = head};
  if (variant == Variant::transformer) c.attention.window = 4096;
  if (c.has_linear()) {
    c.linear = {.key_heads = size.heads, .value_heads = size.heads, .key_dim = key, .value_dim = 2 * key};
  }
  return c;
}

std::optional<ModelConfig> preset(std::string_view name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char ch) { return static_cast<char>(std::tolower(ch)); });
  if (lower == "olmo-hybrid-7b") return olmo_hybrid_7b();
  if (lower == "olmo3-7b") return olmo3_7b();
  const auto dash = lower.find('-');
  if (dash == std::string::npos) return std::nullopt;
  const auto variant = parse_variant(std::string_view(lower).substr(dash + 1));
  for (const auto& size : kSizes) {
    if (variant && lower.substr(0, dash) == size.label) return ladder_config(size, *variant);
  }
  return std::nullopt;
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names{"olmo-hybrid-7b", "olmo3-7b"};
  for (const auto& size : kSizes) {
    for (const auto v : kVariants) names.push_back(std::string(size.label) + "-" + std::string(name_of(v)));
  }
  return names;
}

}  // namespace braid::model

// Named architectures: the released 7B models and the paper's scaling ladder (paper sections 2 and 5, Tables
// 5, 9, 22).
#pragma once
#include <optional>
#include <span>
#include <string_view>

#include "braid/model/config.h"

namespace braid::model {

struct LadderSize {
  std::string_view label;
  std::int64_t hidden_size, heads, layers;
};
std::span<const LadderSize> ladder_sizes();

enum class Variant : std::uint8_t { transformer, gdn, hybrid_3_1, hybrid_1_1, hybrid_7_1, hybrid_middle };
std::string_view name_of(Variant variant);
std::span<const Variant> all_variants();

// Layer types of a variant. Every hybrid ends in attention; a transformer has three windowed layers in four.
std::vector<LayerType> layer_pattern(Variant variant, std::int64_t layers);
// "transformer", "gdn", "3:1", "1:1", "7:1", "middle"; none when unknown.
std::optional<Variant> parse_variant(std::string_view name);

ModelConfig ladder_config(const LadderSize& size, Variant variant);

// "olmo-hybrid-7b", "olmo3-7b", or "SIZE-VARIANT" as in "190m-hybrid-3:1"; none when unknown.
std::optional<ModelConfig> preset(std::string_view name);
std::vector<std::string> preset_names();

}  // namespace braid::model

#include "braid/train/model_table.h"

#include <cmath>

#include "braid/io/quote.h"
#include "braid/model/config_file.h"
#include "braid/model/presets.h"

namespace braid::train {

namespace {

using io::TomlFields;

model::NormPlacement read_norm(const TomlFields& f, std::string_view key, std::string_view fallback) {
  return choose<model::NormPlacement>(
      f, key, fallback, {{"pre", model::NormPlacement::pre}, {"post", model::NormPlacement::post}});
}

std::vector<model::LayerType> read_layers(const TomlFields& f) {
  if (f.has("layer_types")) {
    std::vector<model::LayerType> layers;
    for (const auto& name : f.strings("layer_types")) {
      bool known = false;
      for (const auto type : {model::LayerType::linear_attention, model::LayerType::full_attention,
                              model::LayerType::sliding_attention}) {
        if (name == name_of(type)) {
          layers.push_back(type);
          known = true;
        }
      }
      if (!known)
        f.reject("layer_types", fmt::format("holds {}, which is no layer type", io::in_quotes(name)));
    }
    return layers;
  }
  const auto name = f.string_or("variant", "hybrid-3:1");
  const auto variant = model::parse_variant(name);
  if (!variant) {
    f.reject(
        "variant",
        fmt::format("is {}, expected transformer, gdn, hybrid-3:1, hybrid-1:1, hybrid-7:1 or hybrid-middle",
                    io::in_quotes(name)));
  }
  return model::layer_pattern(*variant, f.integer("layers", 1, 4096));
}

// Changes what the recipe names alone: rope takes YaRN away, rope_theta leaves it.
void apply_rope(const TomlFields& f, model::AttentionConfig& a) {
  using model::RopeType;
  for (auto* rope : {&a.rope_full, &a.rope_sliding}) {
    if (f.has("rope")) {
      const auto type =
          choose<RopeType>(f, "rope", "default", {{"default", RopeType::standard}, {"none", RopeType::none}});
      *rope = type == RopeType::none ? model::RopeConfig{.type = type}
                                     : model::RopeConfig{.type = type, .theta = rope->theta};
    }
    if (!f.has("rope_theta")) continue;
    if (rope->type == RopeType::none) {
      f.reject("rope_theta",
               "is the base of RoPE, but this model has none: leave it out, or set rope = "
               "\"default\"");
    }
    rope->theta = f.number("rope_theta", 1, 1e12);
  }
}

// YaRN as stage 3 of the paper's alternative has it (paper, appendix A). Reaches the full-attention layers,
// as in the published models.
void apply_yarn(const TomlFields& f, model::ModelConfig& c) {
  auto& rope = c.attention.rope_full;
  if (rope.type == model::RopeType::none) f.reject("factor", "stretches RoPE, but this model has none");
  // Stretched already, its frequencies are still those of the context before.
  const auto context = rope.type == model::RopeType::yarn ? rope.original_context : c.max_positions;
  rope.type = model::RopeType::yarn;
  rope.factor = f.number_or("factor", 8, 1, 1e6);
  rope.original_context = f.integer_or("original_context", context, 1, kMaxSize);
  rope.beta_fast = f.number_or("beta_fast", 32, 1e-3, 1e6);
  rope.beta_slow = f.number_or("beta_slow", 1, 1e-3, 1e6);
  if (rope.beta_slow >= rope.beta_fast) f.reject("beta_slow", "is not below beta_fast");
  rope.attention_factor = f.number_or("attention_factor", 0.1 * std::log(rope.factor) + 1, 1e-3, 1e3);
  const auto reach = rope.factor * static_cast<double>(rope.original_context);
  c.max_positions = std::max(c.max_positions, static_cast<std::int64_t>(std::llround(reach)));
}

// What a recipe may change about positions, whatever model it starts from. rope = "none" is DroPE.
void apply_positions(const TomlFields& f, model::ModelConfig& c, std::int64_t sequence_length) {
  apply_rope(f, c.attention);
  if (f.has("yarn")) apply_yarn(f.table("yarn"), c);
  c.max_positions = std::max(sequence_length, f.integer_or("max_positions", c.max_positions, 1, kMaxSize));
}

// The model to start from, where the recipe names one.
std::optional<StartingPoint> read_start(const TomlFields& f) {
  std::string named;
  for (const auto* key : {"preset", "config", "directory", "start_from"}) {
    if (!f.has(key)) continue;
    if (!named.empty()) f.reject(key, fmt::format("and '{}' are both given, which say two models", named));
    named = key;
  }
  if (named == "directory") {
    if (f.has("optimizer_state")) f.reject("optimizer_state", "goes with 'start_from'");
    return StartingPoint{f.string("directory"), {}};
  }
  if (named != "start_from") return std::nullopt;
  const bool carried = f.boolean_or("optimizer_state", false);
  return find_start(f.string("start_from"), carried ? OptimizerState::carried : OptimizerState::fresh);
}

model::ModelConfig read_new_model(const TomlFields& f) {
  model::ModelConfig c;
  if (f.has("preset")) {
    const auto name = f.string("preset");
    const auto found = model::preset(name);
    if (!found)
      f.reject("preset", fmt::format("is {}, which is no preset: 'braid inspect --list' prints them",
                                     io::in_quotes(name)));
    c = *found;
  } else if (f.has("config")) {
    c = model::read_config(f.string("config"));
  } else {
    c.layers = read_layers(f);
    c.hidden_size = f.integer("hidden_size", 1, kMaxSize);
    const auto heads = f.integer("heads", 1, kMaxSize);
    c.intermediate_size = f.integer_or("intermediate_size", 4 * c.hidden_size, 1, kMaxSize);
    c.norm_epsilon = f.number_or("norm_epsilon", 1e-6, 1e-30, 0.5);
    c.tied_embeddings = f.boolean_or("tied_embeddings", false);
    if (c.has_attention() && !f.has("head_dim") && c.hidden_size % heads != 0) {
      f.reject("heads",
               fmt::format("{} does not divide hidden_size {}: give head_dim", heads, c.hidden_size));
    }
    c.attention.heads = heads;
    c.attention.kv_heads = f.integer_or("kv_heads", heads, 1, kMaxSize);
    c.attention.head_dim =
        f.integer_or("head_dim", std::max<std::int64_t>(1, c.hidden_size / heads), 1, kMaxSize);
    c.attention.window = f.integer_or("window", 4096, 1, kMaxSize);
    c.attention.norm = read_norm(f, "attention_norm", "post");
    c.linear.key_heads = f.integer_or("linear_key_heads", heads, 1, kMaxSize);
    c.linear.value_heads = f.integer_or("linear_value_heads", c.linear.key_heads, 1, kMaxSize);
    const auto key = std::max<std::int64_t>(1, 3 * c.hidden_size / (4 * heads));
    c.linear.key_dim = f.integer_or("linear_key_dim", key, 1, kMaxSize);
    c.linear.value_dim = f.integer_or("linear_value_dim", 2 * c.linear.key_dim, 1, kMaxSize);
    c.linear.convolution_width = f.integer_or("convolution_width", 4, 1, 64);
    c.linear.negative_eigenvalues = f.boolean_or("negative_eigenvalues", true);
    c.linear.output_gate = f.boolean_or("output_gate", true);
    c.linear.norm = read_norm(f, "linear_norm", "pre");
  }
  c.linear.initializer = choose<nn::Initializer>(
      f, "linear_initializer", "fan_in",
      {{"fan_in", nn::Initializer::fan_in_uniform}, {"normal", nn::Initializer::normal}});
  c.vocabulary_size = f.integer_or("vocabulary_size", c.vocabulary_size, 0, kMaxSize);  // 0: the tokenizer's
  return c;
}

}  // namespace

ModelTable read_model_table(const TomlFields& f, std::int64_t sequence_length) {
  ModelTable table;
  if (const auto start = read_start(f)) {
    table.start = *start;
    table.config = model::read_config(start->weights);
  } else {
    table.config = read_new_model(f);
    if (f.has("yarn") && !f.table("yarn").has("original_context")) {
      f.table("yarn").reject("original_context", "is missing: a new model has no context before the stretch");
    }
  }
  apply_positions(f, table.config, sequence_length);
  return table;
}

}  // namespace braid::train

#include "braid/model/config_file.h"

#include <algorithm>
#include <cmath>

#include "braid/io/checksums.h"
#include "braid/io/json.h"
#include "braid/io/quote.h"

namespace braid::model {
namespace {

using io::Fields;

enum class Family : std::uint8_t { olmo_hybrid, olmo3, braid };

constexpr std::int64_t kMaxField = std::int64_t{1} << 24;

std::int64_t size_of_field(const Fields& f, std::string_view key) { return f.integer(key, 1, kMaxField); }
std::int64_t size_or(const Fields& f, std::string_view key, std::int64_t fallback) {
  return f.integer_or(key, fallback, 1, kMaxField);
}

LayerType parse_layer(const Fields& f, const std::string& name) {
  if (name == "linear_attention" || name == "mamba" || name == "conv") return LayerType::linear_attention;
  if (name == "full_attention" || name == "attention") return LayerType::full_attention;
  if (name == "sliding_attention") return LayerType::sliding_attention;
  f.reject("layer_types",
           fmt::format("holds {}, expected linear_attention, full_attention or sliding_attention",
                       io::in_quotes(name)));
}

// The families' rules when layer_types is absent: every fourth layer is full attention.
std::vector<LayerType> default_layers(Family family, std::int64_t count) {
  const auto other = family == Family::olmo3 ? LayerType::sliding_attention : LayerType::linear_attention;
  std::vector<LayerType> layers(static_cast<std::size_t>(count), other);
  for (std::size_t i = 3; i < layers.size(); i += 4) layers[i] = LayerType::full_attention;
  if (family == Family::olmo_hybrid && count < 4) layers.back() = LayerType::full_attention;
  return layers;
}

std::vector<LayerType> parse_layers(const Fields& f, Family family) {
  const auto count = f.integer("num_hidden_layers", 1, 4096);
  if (!f.has("layer_types")) return default_layers(family, count);
  std::vector<LayerType> layers;
  for (const auto& name : f.strings("layer_types")) layers.push_back(parse_layer(f, name));
  if (static_cast<std::int64_t>(layers.size()) != count) {
    f.reject("layer_types", fmt::format("lists {} layers, num_hidden_layers is {}", layers.size(), count));
  }
  for (const auto type : layers) {
    const bool known = family == Family::braid || type == LayerType::full_attention ||
                       (type == LayerType::sliding_attention) == (family == Family::olmo3);
    if (!known)
      f.reject("layer_types", fmt::format("holds {}, which this model_type does not have", name_of(type)));
  }
  return layers;
}

double yarn_attention_factor(const Fields& f, double factor) {
  if (f.has("attention_factor")) return f.number("attention_factor");
  const auto scale = [&](double m) { return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1.0; };
  const double mscale = f.number_or("mscale", 0), all = f.number_or("mscale_all_dim", 0);
  return mscale != 0 && all != 0 ? scale(mscale) / scale(all) : scale(1);
}

RopeConfig parse_rope(const Fields& f, double default_theta, std::int64_t max_positions) {
  const auto& json = f.value();
  RopeConfig rope{.theta = f.number_or("rope_theta", default_theta)};
  // Every way in which published files say "no positions".
  const bool null_type = json.contains("rope_type") && json["rope_type"].is_null();
  const bool null_theta = json.contains("rope_theta") && json["rope_theta"].is_null();
  if (null_type || null_theta) return {.type = RopeType::none};
  const auto type = f.string_or("rope_type", f.string_or("type", "default"));
  if (type == "default") return rope;
  if (type != "yarn")
    f.reject("rope_type", fmt::format("is {}, expected 'default', 'yarn' or null", io::in_quotes(type)));
  rope.type = RopeType::yarn;
  rope.original_context = size_or(f, "original_max_position_embeddings", max_positions);
  rope.factor =
      f.number_or("factor", static_cast<double>(max_positions) / static_cast<double>(rope.original_context));
  rope.attention_factor = yarn_attention_factor(f, rope.factor);
  rope.beta_fast = f.number_or("beta_fast", 32);
  rope.beta_slow = f.number_or("beta_slow", 1);
  rope.truncate = f.boolean_or("truncate", true);
  return rope;
}

// The top-level rope_theta of older files; null means no positions.
RopeConfig top_level_rope(const Fields& f, double default_theta) {
  const auto& json = f.value();
  if (json.contains("rope_theta") && json["rope_theta"].is_null()) return {.type = RopeType::none};
  return {.theta = f.number_or("rope_theta", default_theta)};
}

void parse_ropes(const Fields& f, Family family, ModelConfig& c) {
  const auto& json = f.value();
  auto& a = c.attention;
  const bool absent = !json.contains("rope_parameters"), null = !absent && json["rope_parameters"].is_null();
  const double default_theta = family == Family::olmo_hybrid ? 10000 : 500000;  // as transformers 5.17
  if (null && family != Family::olmo3 && !f.has("rope_theta")) {  // published hybrids: no position encoding
    a.rope_full = a.rope_sliding = {.type = RopeType::none};
    return;
  }
  if (absent || null) {
    a.rope_full = top_level_rope(f, default_theta);
    a.rope_sliding = family == Family::olmo3 ? RopeConfig{} : a.rope_full;
    if (f.has("rope_scaling")) {  // olmo3 files of older versions; reaches only the full-attention layers
      a.rope_full = parse_rope(f.object("rope_scaling"), a.rope_full.theta, c.max_positions);
    }
    return;
  }
  const Fields rope = f.object("rope_parameters");
  const bool nested = rope.value().contains("full_attention") || rope.value().contains("sliding_attention");
  if (!nested) {
    const RopeConfig outer = top_level_rope(f, default_theta);
    const bool off = outer.type == RopeType::none && !rope.value().contains("rope_theta");
    a.rope_full = a.rope_sliding = off ? outer : parse_rope(rope, outer.theta, c.max_positions);
    return;
  }
  a.rope_full.theta = f.number_or("rope_theta", 500000);  // reaches only the full-attention layers
  if (rope.has("full_attention"))
    a.rope_full = parse_rope(rope.object("full_attention"), a.rope_full.theta, c.max_positions);
  if (rope.has("sliding_attention")) {
    a.rope_sliding = parse_rope(rope.object("sliding_attention"), 500000, c.max_positions);
  }
}

void parse_attention(const Fields& f, Family family, ModelConfig& c) {
  auto& a = c.attention;
  a.heads = size_of_field(f, "num_attention_heads");
  a.kv_heads = size_or(f, "num_key_value_heads", a.heads);
  if (!f.has("head_dim") && c.hidden_size % a.heads != 0) {
    f.reject("num_attention_heads",
             fmt::format("{} does not divide hidden_size {}: give head_dim", a.heads, c.hidden_size));
  }
  a.head_dim = size_or(f, "head_dim", std::max<std::int64_t>(1, c.hidden_size / a.heads));
  if (c.count(LayerType::sliding_attention) != 0) {
    a.window =
        family == Family::olmo3 ? size_or(f, "sliding_window", 4096) : size_of_field(f, "sliding_window");
  }
  parse_ropes(f, family, c);
  if (f.boolean_or("attention_bias", false))
    f.reject("attention_bias", "is true: projections with biases are not supported");
  if (f.number_or("attention_dropout", 0) != 0)
    f.reject("attention_dropout", "is not 0: dropout is not supported");
}

NormPlacement parse_norm(const Fields& f, std::string_view key, NormPlacement fallback) {
  const auto text = f.string_or(key, fallback == NormPlacement::pre ? "pre" : "post");
  if (text != "pre" && text != "post")
    f.reject(key, fmt::format("is {}, expected 'pre' or 'post'", io::in_quotes(text)));
  return text == "pre" ? NormPlacement::pre : NormPlacement::post;
}

void parse_linear(const Fields& f, Family family, ModelConfig& c) {
  auto& l = c.linear;
  const auto heads = f.integer_or("num_attention_heads", 1, 1, kMaxField);
  l.key_heads = size_or(f, "linear_num_key_heads", heads);
  l.value_heads = size_or(f, "linear_num_value_heads", heads);
  const auto default_key =
      static_cast<std::int64_t>(0.75 * static_cast<double>(c.hidden_size) / static_cast<double>(l.key_heads));
  l.key_dim = size_or(f, "linear_key_head_dim", std::max<std::int64_t>(1, default_key));
  l.value_dim = size_or(f, "linear_value_head_dim", 2 * l.key_dim);
  l.convolution_width = size_or(f, "linear_conv_kernel_dim", 4);
  l.negative_eigenvalues = f.boolean_or("linear_allow_neg_eigval", true);
  if (family == Family::braid) {
    l.output_gate = f.boolean_or("linear_output_gate", true);
    l.norm = parse_norm(f, "linear_norm_placement", NormPlacement::pre);
  }
}

void parse_special_tokens(const Fields& f, ModelConfig& c) {
  if (f.has("bos_token_id")) c.bos_id = f.integer("bos_token_id", 0, kMaxField);
  if (f.has("pad_token_id")) c.pad_id = f.integer("pad_token_id", 0, kMaxField);
  if (const auto* eos = f.find("eos_token_id")) {
    c.eos_ids = eos->is_array() ? f.integers("eos_token_id", 0, kMaxField)
                                : std::vector{f.integer("eos_token_id", 0, kMaxField)};
  }
}

Family parse_family(const Fields& f) {
  const auto type = f.string("model_type");
  if (type == "olmo_hybrid") return Family::olmo_hybrid;
  if (type == "olmo3") return Family::olmo3;
  if (type == "braid") return Family::braid;
  f.reject("model_type", fmt::format("is {}, expected olmo_hybrid, olmo3 or braid", io::in_quotes(type)));
}

bool pure(const ModelConfig& c) { return !c.has_attention() || !c.has_linear(); }

nlohmann::ordered_json rope_json(const RopeConfig& rope) {
  nlohmann::ordered_json j;
  if (rope.type == RopeType::none) return {{"rope_theta", nullptr}, {"rope_type", "default"}};
  j["rope_theta"] = rope.theta;
  j["rope_type"] = rope.type == RopeType::yarn ? "yarn" : "default";
  if (rope.type == RopeType::yarn) {
    j["factor"] = rope.factor;
    j["original_max_position_embeddings"] = rope.original_context;
    j["attention_factor"] = rope.attention_factor;
    j["beta_fast"] = rope.beta_fast;
    j["beta_slow"] = rope.beta_slow;
    if (!rope.truncate) j["truncate"] = false;
  }
  return j;
}

void write_linear(const ModelConfig& c, bool everything, nlohmann::ordered_json& j) {
  const auto& l = c.linear;
  j["linear_num_key_heads"] = l.key_heads;
  j["linear_num_value_heads"] = l.value_heads;
  j["linear_key_head_dim"] = l.key_dim;
  j["linear_value_head_dim"] = l.value_dim;
  j["linear_conv_kernel_dim"] = l.convolution_width;
  j["linear_allow_neg_eigval"] = l.negative_eigenvalues;
  if (!everything) return;
  j["linear_output_gate"] = l.output_gate;
  j["linear_norm_placement"] = l.norm == NormPlacement::pre ? "pre" : "post";
}

template <class T>
nlohmann::ordered_json or_null(const std::optional<T>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

nlohmann::ordered_json eos_json(const std::vector<std::int64_t>& ids) {
  if (ids.empty()) return nullptr;
  if (ids.size() == 1) return ids[0];
  return ids;
}

}  // namespace

ModelConfig parse_config(std::string_view text, const std::string& source) {
  const auto json = io::parse_json(text, source);
  const Fields f(json, source);
  const Family family = parse_family(f);
  ModelConfig c;
  c.vocabulary_size = size_of_field(f, "vocab_size");
  c.hidden_size = size_of_field(f, "hidden_size");
  c.intermediate_size = size_of_field(f, "intermediate_size");
  c.layers = parse_layers(f, family);
  c.norm_epsilon = f.number_or("rms_norm_eps", family == Family::olmo3 ? 1e-5 : 1e-6);
  c.tied_embeddings = f.boolean_or("tie_word_embeddings", false);
  c.max_positions = size_or(f, "max_position_embeddings", family == Family::olmo3 ? 2048 : 65536);
  parse_special_tokens(f, c);
  if (const auto act = f.string_or("hidden_act", "silu"); act != "silu") {
    f.reject("hidden_act", fmt::format("is {}, expected 'silu'", io::in_quotes(act)));
  }
  if (c.has_attention()) parse_attention(f, family, c);
  if (c.has_linear()) parse_linear(f, family, c);
  if (family == Family::braid)
    c.attention.norm = parse_norm(f, "attention_norm_placement", NormPlacement::post);
  c.validate(source);
  return c;
}

ModelConfig read_config(const io::fs::path& path) {
  const auto file = io::fs::is_directory(path) ? path / "config.json" : path;
  io::verify_file(file);
  return parse_config(io::read_file(file), file.string());
}

std::string_view model_type_of(const ModelConfig& c) {
  if (c.has_attention() && c.attention.norm != NormPlacement::post) return "braid";
  if (!c.has_linear()) {
    const bool positions =
        c.attention.rope_full.type != RopeType::none &&
        (c.attention.rope_sliding.type != RopeType::none || c.count(LayerType::sliding_attention) == 0);
    return positions && c.attention.rope_full.truncate ? "olmo3" : "braid";
  }
  const bool expressible = !pure(c) && c.count(LayerType::sliding_attention) == 0 && c.linear.output_gate &&
                           c.linear.norm == NormPlacement::pre;
  return expressible ? "olmo_hybrid" : "braid";
}

std::string write_config(const ModelConfig& c, std::string_view dtype) {
  const auto type = model_type_of(c);
  nlohmann::ordered_json j;
  const auto architecture = type == "olmo_hybrid" ? "OlmoHybridForCausalLM"
                            : type == "olmo3"     ? "Olmo3ForCausalLM"
                                                  : "BraidForCausalLM";
  j["architectures"] = {architecture};
  j["model_type"] = type;
  j["dtype"] = dtype;
  j["vocab_size"] = c.vocabulary_size;
  j["hidden_size"] = c.hidden_size;
  j["intermediate_size"] = c.intermediate_size;
  j["num_hidden_layers"] = c.layers.size();
  j["layer_types"] = nlohmann::ordered_json::array();
  for (const auto layer : c.layers) j["layer_types"].push_back(name_of(layer));
  if (c.has_attention()) {
    j["num_attention_heads"] = c.attention.heads;
    j["num_key_value_heads"] = c.attention.kv_heads;
    j["head_dim"] = c.attention.head_dim;
    j["attention_bias"] = false;
    if (c.count(LayerType::sliding_attention) != 0) j["sliding_window"] = c.attention.window;
    if (type == "braid")
      j["attention_norm_placement"] = c.attention.norm == NormPlacement::pre ? "pre" : "post";
    if (type == "olmo_hybrid") {
      j["rope_parameters"] = rope_json(c.attention.rope_full);
    } else {
      j["rope_parameters"] = {{"sliding_attention", rope_json(c.attention.rope_sliding)},
                              {"full_attention", rope_json(c.attention.rope_full)}};
    }
  }
  if (c.has_linear()) write_linear(c, type == "braid", j);
  j["hidden_act"] = "silu";
  j["rms_norm_eps"] = c.norm_epsilon;
  j["max_position_embeddings"] = c.max_positions;
  j["tie_word_embeddings"] = c.tied_embeddings;
  j["bos_token_id"] = or_null(c.bos_id);
  j["eos_token_id"] = eos_json(c.eos_ids);
  j["pad_token_id"] = or_null(c.pad_id);
  return j.dump(2) + "\n";
}

}  // namespace braid::model

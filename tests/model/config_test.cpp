#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "braid/model/config_file.h"
#include "braid/model/presets.h"
#include "tests/model/golden_models.h"

namespace braid::model {
namespace {

using Json = nlohmann::json;

ModelConfig parse(const Json& json) { return parse_config(json.dump(), "config.json"); }

Json hybrid_json() {
  return Json::parse(
      R"({"model_type": "olmo_hybrid", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 112,
    "num_hidden_layers": 4, "num_attention_heads": 4,
    "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}})");
}
Json olmo3_json() {
  return Json::parse(
      R"({"model_type": "olmo3", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 112,
    "num_hidden_layers": 4, "num_attention_heads": 4})");
}
Json with(Json json, const std::string& key, const Json& value) {
  json[key] = value;
  return json;
}

RopeConfig standard(double theta) { return {.theta = theta}; }
const RopeConfig kNone{.type = RopeType::none};
constexpr auto kLinear = LayerType::linear_attention, kFull = LayerType::full_attention,
               kSliding = LayerType::sliding_attention;

TEST(Config, GoldenFilesAreReadAsTheyWereMeant) {
  const auto hybrid = read_config(test::golden("hybrid"));
  EXPECT_EQ(hybrid.vocabulary_size, 320);
  EXPECT_EQ(hybrid.layers, (std::vector{kLinear, kLinear, kLinear, kFull}));
  EXPECT_EQ(hybrid.attention.rope_full, standard(500000));
  EXPECT_EQ(hybrid.linear.key_dim, 12);
  EXPECT_EQ(hybrid.linear.value_dim, 24);
  EXPECT_EQ(hybrid.linear.norm, NormPlacement::pre);
  EXPECT_EQ(hybrid.attention.norm, NormPlacement::post);
  EXPECT_TRUE(hybrid.linear.negative_eigenvalues);
  EXPECT_EQ(hybrid.max_positions, 256);
  EXPECT_EQ(hybrid.eos_ids, std::vector<std::int64_t>{1});
  EXPECT_EQ(hybrid.pad_id, 0);
  EXPECT_FALSE(hybrid.bos_id.has_value());

  // This case was asked for without positions, and written and run with them; the next one has none.
  EXPECT_EQ(read_config(test::golden("hybrid-nope")).attention.rope_full, standard(10000));
  EXPECT_EQ(read_config(test::golden("hybrid-no-positions")).attention.rope_full, kNone);

  const auto grouped = read_config(test::golden("hybrid-gqa-gva"));
  EXPECT_EQ(grouped.layers, (std::vector{kFull, kLinear, kLinear, kFull}));
  EXPECT_EQ(grouped.attention.kv_heads, 2);
  EXPECT_EQ(grouped.linear.key_heads, 2);
  EXPECT_EQ(grouped.linear.value_heads, 4);
  EXPECT_EQ(grouped.linear.convolution_width, 3);
  EXPECT_FALSE(grouped.linear.negative_eigenvalues);

  const auto yarn = read_config(test::golden("olmo3-yarn") / "config.json");
  EXPECT_EQ(yarn.layers, (std::vector{kSliding, kSliding, kSliding, kFull}));
  EXPECT_EQ(yarn.attention.window, 16);
  EXPECT_EQ(yarn.attention.rope_sliding, standard(500000));
  EXPECT_EQ(yarn.attention.rope_full.type, RopeType::yarn);
  EXPECT_EQ(yarn.attention.rope_full.factor, 4);
  EXPECT_EQ(yarn.attention.rope_full.original_context, 32);
  EXPECT_EQ(yarn.attention.rope_full.attention_factor, 1.138629436111989);
  EXPECT_EQ(yarn.norm_epsilon, 1e-5);
}

// What transformers 5.17 makes of each form; null alone is the exception, see docs/files.md.
TEST(Config, RopeFormsOfHybridFiles) {
  const auto rope = [](const Json& parameters) {
    return parse(with(hybrid_json(), "rope_parameters", parameters)).attention.rope_full;
  };
  EXPECT_EQ(rope(nullptr), kNone);
  EXPECT_EQ(rope(Json::parse(R"({"rope_theta": null, "rope_type": "default"})")), kNone);
  EXPECT_EQ(rope(Json::parse(R"({"rope_theta": null})")), kNone);
  EXPECT_EQ(rope(Json::parse(R"({"rope_type": null})")), kNone);
  EXPECT_EQ(rope(Json::parse(R"({"rope_type": null, "rope_theta": 500000})")), kNone);
  EXPECT_EQ(rope(Json::object()), standard(10000));
  EXPECT_EQ(rope(Json::parse(R"({"rope_theta": 7000})")), standard(7000));
  EXPECT_EQ(parse(with(with(hybrid_json(), "rope_parameters", Json::object()), "rope_theta", nullptr))
                .attention.rope_full,
            kNone);

  auto json = hybrid_json();
  json.erase("rope_parameters");
  EXPECT_EQ(parse(json).attention.rope_full, standard(10000));
  EXPECT_EQ(parse(with(json, "rope_theta", 7000)).attention.rope_full, standard(7000));
  EXPECT_EQ(parse(with(json, "rope_theta", nullptr)).attention.rope_full, kNone);
  json["rope_parameters"] = nullptr;
  EXPECT_EQ(parse(with(json, "rope_theta", 7000)).attention.rope_full, standard(7000));
  EXPECT_EQ(parse(with(json, "rope_theta", nullptr)).attention.rope_full, kNone);
}

TEST(Config, RopeFormsOfOlmo3Files) {
  auto json = olmo3_json();
  EXPECT_EQ(parse(json).attention.rope_full, standard(500000));
  EXPECT_EQ(parse(json).attention.rope_sliding, standard(500000));
  // Older files: theta and scaling reach the full-attention layers only.
  json["rope_theta"] = 7000;
  EXPECT_EQ(parse(json).attention.rope_full, standard(7000));
  EXPECT_EQ(parse(json).attention.rope_sliding, standard(500000));
  json["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 8}, {"original_max_position_embeddings", 64}};
  auto a = parse(json).attention;
  EXPECT_EQ(a.rope_full.type, RopeType::yarn);
  EXPECT_EQ(a.rope_full.theta, 7000);
  EXPECT_EQ(a.rope_sliding, standard(500000));
  // One entry missing: that layer type's default.
  json = with(olmo3_json(), "rope_parameters", {{"full_attention", {{"rope_theta", 9000}}}});
  EXPECT_EQ(parse(json).attention.rope_full, standard(9000));
  EXPECT_EQ(parse(json).attention.rope_sliding, standard(500000));
  json = with(olmo3_json(), "rope_parameters", {{"full_attention", {{"rope_type", "default"}}}});
  EXPECT_EQ(parse(with(json, "rope_theta", 7000)).attention.rope_full, standard(7000));
  // null means no positions in hybrids only.
  EXPECT_EQ(parse(with(olmo3_json(), "rope_parameters", nullptr)).attention.rope_full, standard(500000));
}

TEST(Config, YarnDefaults) {
  auto json = with(hybrid_json(), "max_position_embeddings", 256);
  json["rope_parameters"] = {
      {"rope_type", "yarn"}, {"rope_theta", 500000}, {"original_max_position_embeddings", 64}};
  auto rope = parse(json).attention.rope_full;
  EXPECT_EQ(rope.factor, 4);
  EXPECT_DOUBLE_EQ(rope.attention_factor, 0.1 * std::log(4.0) + 1);
  EXPECT_EQ(rope.beta_fast, 32);
  EXPECT_EQ(rope.beta_slow, 1);
  EXPECT_TRUE(rope.truncate);
  json["rope_parameters"]["mscale"] = 2;
  json["rope_parameters"]["mscale_all_dim"] = 0.5;
  rope = parse(json).attention.rope_full;
  EXPECT_DOUBLE_EQ(rope.attention_factor, (0.2 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1));
  json["rope_parameters"]["attention_factor"] = 1.5;
  EXPECT_EQ(parse(json).attention.rope_full.attention_factor, 1.5);
}

TEST(Config, DefaultsOfAbsentFields) {
  const auto h = parse(hybrid_json());
  EXPECT_EQ(h.layers, (std::vector{kLinear, kLinear, kLinear, kFull}));
  EXPECT_EQ(h.attention.kv_heads, 4);
  EXPECT_EQ(h.attention.head_dim, 16);
  EXPECT_EQ(h.linear.key_heads, 4);
  EXPECT_EQ(h.linear.value_heads, 4);
  EXPECT_EQ(h.linear.key_dim, 12);  // 0.75 · hidden / heads
  EXPECT_EQ(h.linear.value_dim, 24);
  EXPECT_EQ(h.linear.convolution_width, 4);
  EXPECT_TRUE(h.linear.negative_eigenvalues);
  EXPECT_EQ(h.norm_epsilon, 1e-6);
  EXPECT_EQ(h.max_positions, 65536);
  EXPECT_FALSE(h.tied_embeddings);
  const auto o = parse(olmo3_json());
  EXPECT_EQ(o.layers, (std::vector{kSliding, kSliding, kSliding, kFull}));
  EXPECT_EQ(o.attention.window, 4096);
  EXPECT_EQ(o.norm_epsilon, 1e-5);
  EXPECT_EQ(o.max_positions, 2048);
  // A hybrid too short for the pattern ends in attention all the same.
  EXPECT_EQ(parse(with(hybrid_json(), "num_hidden_layers", 2)).layers, (std::vector{kLinear, kFull}));
  EXPECT_EQ(parse(with(hybrid_json(), "head_dim", 8)).attention.head_dim, 8);
  EXPECT_EQ(parse(with(hybrid_json(), "head_dim", nullptr)).attention.head_dim, 16);
}

TEST(Config, OlderLayerNamesAndLists) {
  auto json = with(hybrid_json(), "layer_types", {"mamba", "conv", "attention", "linear_attention"});
  EXPECT_EQ(parse(json).layers, (std::vector{kLinear, kLinear, kFull, kLinear}));
  EXPECT_EQ(parse(with(json, "eos_token_id", {3, 5})).eos_ids, (std::vector<std::int64_t>{3, 5}));
  EXPECT_TRUE(parse(with(json, "eos_token_id", nullptr)).eos_ids.empty());
  EXPECT_EQ(parse(with(json, "a_field_of_tomorrow", {{"x", 1}})), parse(json));
}

struct Malformed {
  std::string key;
  Json value;
  std::string field = key;  // that the error must name
};

TEST(Config, MalformedFieldsAreNamed) {
  const std::vector<Malformed> hybrid = {
      {"model_type", "llama"},
      {"model_type", "two\nlines"},
      {"model_type", nullptr},
      {"model_type", 3},
      {"vocab_size", nullptr},
      {"vocab_size", 0},
      {"vocab_size", -5},
      {"vocab_size", 1.5},
      {"vocab_size", "320"},
      {"vocab_size", std::int64_t{1} << 40},
      {"vocab_size", std::uint64_t{1} << 63},
      {"hidden_size", nullptr},
      {"hidden_size", 0},
      {"hidden_size", true},
      {"intermediate_size", Json::array()},
      {"intermediate_size", 0},
      {"num_hidden_layers", 0},
      {"num_hidden_layers", 5000},
      {"num_hidden_layers", nullptr},
      {"layer_types", "linear_attention"},
      {"layer_types", {"linear_attention"}},
      {"layer_types", {1, 2, 3, 4}},
      {"layer_types", {"a\n", "b", "c", "d"}},
      {"layer_types", {"linear_attention", "linear_attention", "linear_attention", "sliding_attention"}},
      {"num_attention_heads", nullptr},
      {"num_attention_heads", 0},
      {"num_attention_heads", 5},
      {"num_key_value_heads", 3},
      {"num_key_value_heads", 0},
      {"head_dim", 0},
      {"head_dim", 7},
      {"head_dim", "x"},
      {"attention_bias", true},
      {"attention_bias", 1},
      {"attention_dropout", 0.1},
      {"attention_dropout", "0"},
      {"hidden_act", "ge\nlu"},
      {"hidden_act", 1},
      {"rms_norm_eps", 0},
      {"rms_norm_eps", 2},
      {"rms_norm_eps", "1e-6"},
      {"max_position_embeddings", 0},
      {"tie_word_embeddings", "no"},
      {"bos_token_id", -1},
      {"pad_token_id", 1.5},
      {"eos_token_id", -1},
      {"eos_token_id", {1, "2"}},
      {"eos_token_id", Json::object()},
      {"rope_parameters", 7},
      {"rope_parameters", Json::array()},
      {"rope_parameters", {{"rope_theta", "big"}}, "rope_parameters.rope_theta"},
      {"rope_parameters", {{"rope_theta", 0}}, "rope_theta"},
      {"rope_parameters", {{"rope_theta", -2}}, "rope_theta"},
      {"rope_parameters", {{"rope_type", "llama\n3"}}, "rope_parameters.rope_type"},
      {"rope_parameters", {{"rope_type", "yarn"}, {"factor", 0.5}}, "factor"},
      {"rope_parameters", {{"rope_type", "yarn"}, {"factor", "4"}}, "rope_parameters.factor"},
      {"rope_parameters",
       {{"rope_type", "yarn"}, {"original_max_position_embeddings", 0}},
       "original_max_position_embeddings"},
      {"rope_parameters", {{"rope_type", "yarn"}, {"beta_fast", 1}, {"beta_slow", 2}}, "beta_fast"},
      {"rope_parameters", {{"rope_type", "yarn"}, {"attention_factor", 0}}, "attention_factor"},
      {"rope_parameters", {{"rope_type", "yarn"}, {"truncate", 1}}, "truncate"},
      {"linear_num_key_heads", 0},
      {"linear_num_key_heads", 3},
      {"linear_num_value_heads", 2, "linear_num_value_heads"},
      {"linear_key_head_dim", 0},
      {"linear_value_head_dim", -1},
      {"linear_value_head_dim", 1.0},
      {"linear_conv_kernel_dim", 0},
      {"linear_conv_kernel_dim", 65},
      {"linear_allow_neg_eigval", 1}};
  for (const auto& c : hybrid) {
    const auto json = with(hybrid_json(), c.key, c.value);
    test::expect_error([&] { parse(json); }, {"config.json: ", c.field}, c.key + " = " + c.value.dump());
  }
  const std::vector<Malformed> olmo3 = {
      {"layer_types", {"linear_attention", "full_attention", "full_attention", "full_attention"}},
      {"sliding_window", 0},
      {"sliding_window", "4096"},
      {"rope_parameters", {{"full_attention", 3}}, "rope_parameters.full_attention"},
      {"rope_parameters",
       {{"sliding_attention", {{"rope_type", "x"}}}},
       "rope_parameters.sliding_attention.rope_type"}};
  for (const auto& c : olmo3) {
    const auto json = with(olmo3_json(), c.key, c.value);
    test::expect_error([&] { parse(json); }, {"config.json: ", c.field}, c.key + " = " + c.value.dump());
  }
  for (const std::string text :
       {"", "[]", "{", "null", "{\"model_type\": \"olmo3\", \"model_type\": \"olmo3\"}"}) {
    test::expect_error([&] { parse_config(text, "config.json"); }, {"config.json"}, text);
  }
  test::expect_error([] { read_config("/nonexistent/config.json"); }, {"/nonexistent/config.json"});
}

TEST(Config, EveryPresetSurvivesWritingAndReading) {
  for (const auto& name : preset_names()) {
    const auto config = preset(name);
    ASSERT_TRUE(config.has_value()) << name;
    EXPECT_EQ(parse_config(write_config(*config, "bfloat16"), name), *config) << name;
  }
  for (const auto& name : test::golden_cases()) {
    const auto config = read_config(test::golden(name));
    EXPECT_EQ(parse_config(write_config(config, "float32"), name), config) << name;
  }
}

TEST(Config, EveryOptionSurvivesWritingAndReading) {
  const auto base = *preset("60m-hybrid-3:1");
  std::vector<ModelConfig> variants(12, base);
  variants[0].attention.rope_full = variants[0].attention.rope_sliding = kNone;
  variants[1].tied_embeddings = true;
  variants[2].linear.output_gate = false;
  variants[3].linear.norm = NormPlacement::post;
  variants[4].attention.norm = NormPlacement::pre;
  variants[5].linear.negative_eigenvalues = false;
  variants[6].linear.convolution_width = 2;
  variants[7].eos_ids = {1, 2, 3}, variants[7].bos_id = 7, variants[7].pad_id.reset();
  variants[8].eos_ids.clear();
  variants[9].attention.kv_heads = 2, variants[9].linear.key_heads = 4;
  variants[10].layers[0] = kSliding, variants[10].attention.window = 128;
  variants[11].attention.rope_full = variants[11].attention.rope_sliding = {.type = RopeType::yarn,
                                                                            .theta = 12345.678,
                                                                            .factor = 3.3,
                                                                            .original_context = 512,
                                                                            .attention_factor = 1.1,
                                                                            .truncate = false};
  for (std::size_t i = 0; i < variants.size(); ++i) {
    EXPECT_EQ(parse_config(write_config(variants[i], "float32"), "config.json"), variants[i])
        << "variant " << i;
  }
}

TEST(Config, ModelTypeIsThePublishedOneWhereItCanSayTheModel) {
  const auto type = [](const std::string& name) { return std::string(model_type_of(*preset(name))); };
  EXPECT_EQ(type("olmo-hybrid-7b"), "olmo_hybrid");
  EXPECT_EQ(type("olmo3-7b"), "olmo3");
  EXPECT_EQ(type("60m-hybrid-middle"), "olmo_hybrid");
  EXPECT_EQ(type("60m-gdn"), "braid");
  auto c = *preset("olmo-hybrid-7b");
  c.linear.output_gate = false;
  EXPECT_EQ(model_type_of(c), "braid");
  c = *preset("olmo3-7b");
  c.attention.rope_full = kNone;
  EXPECT_EQ(model_type_of(c), "braid");
  // transformers reads null as "with positions": no positions must be written as a null theta.
  c = *preset("olmo-hybrid-7b");
  c.attention.rope_full = c.attention.rope_sliding = kNone;
  const auto json = Json::parse(write_config(c, "float32"));
  ASSERT_TRUE(json["rope_parameters"].is_object());
  EXPECT_TRUE(json["rope_parameters"]["rope_theta"].is_null());
  EXPECT_EQ(json["rope_parameters"]["rope_type"], "default");
}

}  // namespace
}  // namespace braid::model

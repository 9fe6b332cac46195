#include "braid/model/weights.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>

#include "braid/model/config_file.h"
#include "tests/model/golden_models.h"
#include "tests/support/comparator.h"
#include "tests/support/small_models.h"

namespace braid::model {
namespace {

using test::TemporaryFolder;
using Tensors = std::vector<io::NamedTensor>;

Tensors golden_tensors(const io::TensorFiles& files) { return files.tensors(); }

// A model directory with these tensors.
void write(const io::fs::path& folder, const ModelConfig& config, const Tensors& tensors) {
  io::write_file(folder / "config.json", write_config(config, "float32"));
  io::write_safetensors(folder / "model.safetensors", tensors);
}

void expect_same_parameters(const Model& got, const Model& want, const std::string& what) {
  const auto a = list(got.parameters.tree(), got.config), b = list(want.parameters.tree(), want.config);
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i) {
    test::expect_same(a[i].tensor, b[i].tensor, what + " " + a[i].spec.name);
  }
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  if (const auto at = text.find(from); at != text.npos) text.replace(at, from.size(), to);
  return text;
}

const ConstTensor* find(const Tensors& tensors, const std::string& name) {
  for (const auto& t : tensors) {
    if (t.name == name) return &t.tensor;
  }
  return nullptr;
}

void erase(Tensors& tensors, const std::string& name) {
  ASSERT_EQ(std::erase_if(tensors, [&](const auto& t) { return t.name == name; }), 1u) << name;
}

class GoldenWeights : public ::testing::TestWithParam<std::string> {
 protected:
  GoldenWeights()
      : model_(test::golden_model(GetParam())),
        files_(test::golden(GetParam())),
        tensors_(golden_tensors(files_)) {}
  // Loads the directory that these tensors make, and compares with the golden model.
  void expect_loads(const Tensors& tensors, const std::string& what) const {
    TemporaryFolder folder;
    write(folder.path(), model_.config, tensors);
    expect_same_parameters(load_model(folder.path(), {}), model_, GetParam() + ": " + what);
  }
  Model model_;
  io::TensorFiles files_;
  Tensors tensors_;
};

// The golden files split the convolution into equal thirds: joined, they are the fused filter.
TEST_P(GoldenWeights, ConvolutionIsTheJoinedParts) {
  for (std::size_t i = 0; i < model_.config.layers.size(); ++i) {
    if (model_.config.layers[i] != LayerType::linear_attention) continue;
    const auto& mixer = std::get<nn::GatedDeltaNet::Params>(model_.parameters.tree().blocks[i].mixer);
    std::vector<float> joined;
    for (const char* part : {"q", "k", "v"}) {
      const auto& t = files_.at(fmt::format("model.layers.{}.linear_attn.{}_conv1d.weight", i, part));
      EXPECT_NEAR(static_cast<double>(t.shape[0]), static_cast<double>(mixer.convolution.shape[0]) / 3, 1);
      joined.insert(joined.end(), t.as<float>(), t.as<float>() + t.count());
    }
    ASSERT_EQ(static_cast<std::int64_t>(joined.size()), mixer.convolution.count());
    EXPECT_EQ(std::memcmp(joined.data(), mixer.convolution.data, mixer.convolution.bytes()), 0);
  }
}

TEST_P(GoldenWeights, EveryGenerationOfNamesLoads) {
  const auto& p = model_.parameters.tree();
  expect_loads(tensors_, "as transformers writes");
  expect_loads(file_tensors(p, model_.config), "published names");
  const auto memory = memory_tensors(p, model_.config);
  expect_loads(memory, "in-memory names");
  auto older = memory, bare = memory;
  for (auto& t : older) {
    t.name = replaced(replaced(t.name, "linear_attn.o_proj", "linear_attn.out_proj"), "linear_attn.o_norm",
                      "linear_attn.norm");
  }
  expect_loads(older, "out_proj and norm");
  for (auto& t : bare) t.name = replaced(t.name, "model.", "");
  expect_loads(bare, "without the prefix model.");
  // Mixed: names of memory, convolutions as written.
  auto mixed = memory;
  std::erase_if(mixed, [](const auto& t) { return t.name.ends_with("conv1d.weight"); });
  for (const auto& t : tensors_) {
    if (t.name.find("conv1d") != t.name.npos) mixed.push_back(t);
  }
  expect_loads(mixed, "mixed");
}

TEST_P(GoldenWeights, WrittenNamesAndWidthsAreThePublishedOnes) {
  const auto& c = model_.config;
  const auto out = file_tensors(model_.parameters.tree(), c);
  EXPECT_EQ(out.size(), tensors_.size());
  const auto keys = c.linear.key_heads * c.linear.key_dim, values = c.linear.value_heads * c.linear.value_dim;
  for (std::size_t i = 0; i < c.layers.size(); ++i) {
    const auto layer = fmt::format("model.layers.{}.", i);
    if (c.layers[i] == LayerType::linear_attention) {
      EXPECT_NE(find(out, layer + "attention_layer_norm.weight"), nullptr);
      EXPECT_NE(find(out, layer + "feedforward_layer_norm.weight"), nullptr);
      EXPECT_EQ(find(out, layer + "post_attention_layernorm.weight"), nullptr);
      for (const auto& [part, rows] : {std::pair{"q", keys}, std::pair{"k", keys}, std::pair{"v", values}}) {
        const auto* t = find(out, layer + "linear_attn." + part + "_conv1d.weight");
        ASSERT_NE(t, nullptr);
        EXPECT_EQ(t->shape, (Shape{rows, 1, c.linear.convolution_width}));
      }
    } else {
      EXPECT_NE(find(out, layer + "post_attention_layernorm.weight"), nullptr);
      EXPECT_NE(find(out, layer + "post_feedforward_layernorm.weight"), nullptr);
      EXPECT_EQ(find(out, layer + "feedforward_layer_norm.weight"), nullptr);
    }
  }
}

TEST_P(GoldenWeights, SavedModelIsTheModel) {
  for (const std::size_t shard : {0, 20'000}) {
    TemporaryFolder folder;
    save_model(folder.path(), model_.parameters.tree(), model_.config, {.max_shard_bytes = shard});
    EXPECT_EQ(io::fs::exists(folder / "model.safetensors.index.json"), shard != 0);
    const auto loaded = load_model(folder.path(), {});
    EXPECT_EQ(loaded.config, model_.config);
    expect_same_parameters(loaded, model_, fmt::format("{} shards of {}", GetParam(), shard));
  }
}

// Saving rounds once; what is small and sensitive keeps its bits.
TEST_P(GoldenWeights, SixteenBitFilesHoldTheRoundedValues) {
  for (const auto dtype : {DType::bf16, DType::f16}) {
    TemporaryFolder folder;
    save_model(folder.path(), model_.parameters.tree(), model_.config,
               {.dtype = dtype, .max_shard_bytes = 50'000});
    const auto loaded = load_model(folder.path(), {});
    const auto got = list(loaded.parameters.tree(), loaded.config),
               want = list(model_.parameters.tree(), model_.config);
    for (std::size_t i = 0; i < got.size(); ++i) {
      const auto& name = want[i].spec.name;
      const bool exact = name.ends_with("A_log") || name.ends_with("dt_bias");
      for (std::int64_t k = 0; k < got[i].tensor.count(); ++k) {
        const float x = want[i].tensor.as<float>()[k];
        const float rounded = exact                 ? x
                              : dtype == DType::f16 ? static_cast<float>(Float16(x))
                                                    : static_cast<float>(BFloat16(x));
        ASSERT_EQ(got[i].tensor.as<float>()[k], rounded) << name << " " << k;
      }
    }
    // Matrices kept in bf16 hold the same values; saving them again changes nothing.
    if (dtype != DType::bf16) continue;
    const auto narrow = load_model(folder.path(), {.matrix = DType::bf16});
    for (const auto& [spec, t] : list(narrow.parameters.tree(), narrow.config)) {
      EXPECT_EQ(t.dtype, spec.role == nn::ParameterRole::precise ? DType::f32 : DType::bf16) << spec.name;
    }
    TemporaryFolder again;
    save_model(again.path(), narrow.parameters.tree(), narrow.config, {.dtype = dtype});
    expect_same_parameters(load_model(again.path(), {}), loaded, GetParam() + " bf16 again");
  }
}

std::string case_name(const ::testing::TestParamInfo<std::string>& info) {
  return replaced(replaced(info.param, "-", "_"), "-", "_");
}
// The other golden cases have the tensors of one of these.
INSTANTIATE_TEST_SUITE_P(Cases, GoldenWeights, ::testing::Values("hybrid", "hybrid-gqa-gva", "olmo3"),
                         case_name);

class BadWeights : public ::testing::Test {
 protected:
  BadWeights()
      : config_(read_config(test::golden("hybrid"))),
        files_(test::golden("hybrid")),
        tensors_(files_.tensors()) {}
  // `t` under another shape or dtype; its bytes are zeros.
  void replace(const std::string& name, DType dtype, const Shape& shape) {
    erase(tensors_, name);
    add(name, dtype, shape);
  }
  void add(const std::string& name, DType dtype, const Shape& shape) {
    ConstTensor t;
    t.dtype = dtype;
    t.shape = shape;
    buffers_.emplace_back(t.bytes());
    t.data = buffers_.back().data();
    tensors_.push_back({name, t});
  }
  void expect_rejected(const std::vector<std::string>& parts) {
    TemporaryFolder folder;
    write(folder.path(), config_, tensors_);
    auto all = parts;
    all.push_back(folder.path().string());
    test::expect_error([&] { load_model(folder.path(), {}); }, all);
  }
  ModelConfig config_;
  io::TensorFiles files_;
  Tensors tensors_;
  std::deque<Buffer> buffers_;
};

TEST_F(BadWeights, MissingTensorsAreNamed) {
  for (const std::string name :
       {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight",
        "model.layers.0.linear_attn.A_log", "model.layers.0.linear_attn.k_conv1d.weight",
        "model.layers.1.linear_attn.k_proj.weight", "model.layers.3.self_attn.q_norm.weight",
        "model.layers.2.mlp.up_proj.weight"}) {
    tensors_ = files_.tensors();
    erase(tensors_, name);
    expect_rejected({name, "missing"});
  }
}

TEST_F(BadWeights, ExtraTensorsAreNamed) {
  add("model.layers.4.mlp.up_proj.weight", DType::f32, {112, 64});
  expect_rejected({"model.layers.4.mlp.up_proj.weight"});
  tensors_ = files_.tensors();
  add("model.layers.3.self_attn.q_proj.bias", DType::f32, {64});
  expect_rejected({"model.layers.3.self_attn.q_proj.bias"});
  // Buffers that older files carry are no parameters.
  tensors_ = files_.tensors();
  add("model.layers.3.self_attn.rotary_emb.inv_freq", DType::f32, {8});
  TemporaryFolder folder;
  write(folder.path(), config_, tensors_);
  EXPECT_NO_THROW(load_model(folder.path(), {}));
}

TEST_F(BadWeights, WrongShapesAndDtypesAreNamed) {
  const struct {
    std::string name;
    DType dtype;
    Shape shape;
  } cases[] = {{"model.embed_tokens.weight", DType::f32, {321, 64}},
               {"model.layers.0.linear_attn.q_proj.weight", DType::f32, {64, 48}},
               {"model.layers.0.linear_attn.q_conv1d.weight", DType::f32, {64, 4}},
               {"model.layers.0.linear_attn.v_conv1d.weight", DType::f32, {65, 1, 4}},
               {"model.layers.0.linear_attn.v_conv1d.weight", DType::f32, {64, 1, 3}},
               {"model.layers.0.linear_attn.A_log", DType::f32, {5}},
               {"model.layers.3.self_attn.q_norm.weight", DType::f32, {16}},
               {"model.norm.weight", DType::i64, {64}}};
  for (const auto& c : cases) {
    tensors_ = files_.tensors();
    replace(c.name, c.dtype, c.shape);
    expect_rejected({c.name});
  }
  // Parts that are each possible and too few together.
  tensors_ = files_.tensors();
  replace("model.layers.0.linear_attn.v_conv1d.weight", DType::f32, {63, 1, 4});
  expect_rejected({"model.layers.0.linear_attn.conv1d.weight", "191", "192"});
}

TEST_F(BadWeights, TwoNamesForOneTensorAreRejected) {
  const std::string name = "model.layers.0.linear_attn.out_proj.weight";
  add(name, DType::f32, {64, 96});
  expect_rejected({name});
}

TEST(TiedWeights, HeadMayBeAbsentOrEqual) {
  auto config = read_config(test::golden("hybrid"));
  config.tied_embeddings = true;
  const io::TensorFiles files(test::golden("hybrid"));
  auto tensors = files.tensors();
  std::erase_if(tensors, [](const auto& t) { return t.name == "lm_head.weight"; });
  TemporaryFolder without, equal, different;
  write(without.path(), config, tensors);
  const auto model = load_model(without.path(), {});
  EXPECT_FALSE(model.parameters.tree().head.defined());
  EXPECT_EQ(model.parameters.tree().output_head().data, model.parameters.tree().embedding.data);
  EXPECT_EQ(find(file_tensors(model.parameters.tree(), config), "lm_head.weight"), nullptr);

  auto with_head = tensors;
  with_head.push_back({"lm_head.weight", files.at("model.embed_tokens.weight")});
  write(equal.path(), config, with_head);
  expect_same_parameters(load_model(equal.path(), {}), model, "equal head");

  write(different.path(), config, files.tensors());
  test::expect_error([&] { load_model(different.path(), {}); }, {"tie_word_embeddings", "lm_head.weight"});
}

// Stacks that no published model type can say round-trip as well.
TEST(SavedModels, EveryKindOfStackSurvives) {
  for (const auto& small : test::small_models()) {
    const Model model{.config = small.config, .parameters = test::small_parameters(small.config, 3)};
    TemporaryFolder folder;
    save_model(folder.path(), model.parameters.tree(), model.config, {});
    const auto loaded = load_model(folder.path(), {});
    expect_same_parameters(loaded, model, small.name);
    EXPECT_EQ(write_config(loaded.config, "float32"), write_config(model.config, "float32")) << small.name;
  }
}

}  // namespace
}  // namespace braid::model

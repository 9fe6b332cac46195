// Model directories exactly as transformers wrote them (tests/golden) start every stage.
#include <cmath>
#include <nlohmann/json.hpp>

#include "braid/model/config_file.h"
#include "braid/model/soup.h"
#include "braid/model/weights.h"
#include "braid/train/run.h"
#include "tests/support/comparator.h"
#include "tests/support/files.h"
#include "tests/text/tokenizer_fixture.h"
#include "tests/train/small_run.h"

namespace braid::test {
namespace {

constexpr const char* kCases[] = {"hybrid",         "hybrid-nope", "hybrid-no-positions",
                                  "hybrid-gqa-gva", "olmo3",       "olmo3-yarn"};

class TransformersStart : public ::testing::TestWithParam<const char*> {
 protected:
  fs::path model() const { return golden(GetParam()); }

  // As many ids as the golden configs have: their end of text is 1, bytes begin at 2.
  fs::path tokenizer() const {
    auto json = small_tokenizer();
    for (auto& [token, id] : json["model"]["vocab"].items()) id = id.get<int>() + 2;
    json["model"]["vocab"]["<|pad|>"] = 0;
    json["model"]["vocab"]["<|endoftext|>"] = 1;
    for (int id = 258; id < 320; ++id) json["model"]["vocab"][fmt::format("unused{}", id)] = id;
    json["added_tokens"] = {{{"id", 1}, {"content", "<|endoftext|>"}, {"special", true}}};
    return put(folder_ / "tokenizer.json", json.dump());
  }
  train::RunConfig stage(std::string_view data, std::string_view rest) const {
    put(folder_ / "recipe.toml",
        fmt::format(
            "[run]\nfolder = \"{}\"\n[model]\nstart_from = \"{}\"\n[data]\ntokenizer = \"{}\"\n{}\n{}",
            (folder_ / "run").string(), model().string(), tokenizer().string(), data, rest));
    return train::read_run_config(folder_ / "recipe.toml", {});
  }
  // The value of a key in each line that has it.
  std::vector<double> metric(const std::string& key) const {
    std::vector<double> values;
    std::istringstream lines(io::read_file(folder_ / "run/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json.contains(key)) values.push_back(json[key]);
    }
    return values;
  }

  TemporaryFolder folder_;
};

// Four steps with the optimiser of the golden file: before each, the loss that transformers had.
TEST_P(TransformersStart, TrainsToTheSameLosses) {
  const io::TensorFiles want(model() / "golden.safetensors");
  const auto& ids = want.at("input_ids");
  std::vector<std::uint16_t> tokens(ids.as<std::int64_t>(), ids.as<std::int64_t>() + ids.count());
  const auto file =
      put(folder_ / "ids.u16", {reinterpret_cast<const char*>(tokens.data()), 2 * tokens.size()});
  run(stage(fmt::format("train = [\"{}\"]\nsequence_length = {}", file.string(), ids.shape[1]), R"([train]
steps = 4
batch_size = 2
[optimizer]
beta1 = 0.9
beta2 = 0.95
weight_decay = 0.1
no_decay = []
max_gradient_norm = 0
z_loss = 0
[schedule]
learning_rate = 0.001
decay = "constant"
)"));
  const auto losses = metric("loss");
  const auto& golden_losses = want.at("adamw.losses");
  ASSERT_EQ(losses.size(), 4u);
  for (std::int64_t step = 0; step < 4; ++step) {
    const double expected = element(golden_losses, step);
    EXPECT_NEAR(losses[static_cast<std::size_t>(step)], expected, 1e-5 * expected) << "step " << step + 1;
  }
}

class TransformersStages : public TransformersStart {};

TEST_P(TransformersStages, IsAnIngredientOfASoup) {
  model::make_soup({model(), model()}, folder_ / "soup", {.weights = {1, 3}});
  const auto before = model::load_model(model(), {}), after = model::load_model(folder_ / "soup", {});
  expect_same(after.parameters.flat(), before.parameters.flat(), GetParam());
}

TEST_P(TransformersStages, IsTunedOnPreferences) {
  const auto pairs = put(folder_ / "pairs.jsonl",
                         "{\"prompt\": \"a b \", \"chosen\": \"c\", \"rejected\": \"d e\"}\n"
                         "{\"prompt\": \"f\", \"chosen\": \"gh\", \"rejected\": \"i\"}\n");
  run(stage(fmt::format("preferences = [\"{}\"]\nsequence_length = 16", pairs.string()), R"([train]
objective = "dpo"
steps = 3
batch_size = 4
[optimizer]
z_loss = 0
[schedule]
learning_rate = 0.001
decay = "constant"
)"));
  const auto losses = metric("dpo_loss");
  ASSERT_EQ(losses.size(), 3u);
  EXPECT_NEAR(losses[0], std::log(2.0), 1e-6) << "the model is its own reference";
  EXPECT_LT(losses[2], losses[0]);
  const auto tuned = model::read_config(folder_ / "run/model");
  EXPECT_EQ(model::write_config(tuned, "float32"),
            model::write_config(model::read_config(model()), "float32"));
}

std::string test_name(const ::testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::ranges::replace(name, '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Cases, TransformersStart, ::testing::ValuesIn(kCases), test_name);
INSTANTIATE_TEST_SUITE_P(Cases, TransformersStages, ::testing::Values("hybrid-gqa-gva", "olmo3-yarn"),
                         test_name);

}  // namespace
}  // namespace braid::test

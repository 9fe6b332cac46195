// Length-normalised DPO: its loss by hand, its gradient by differences, and whole runs.
#include "braid/train/preference.h"

#include <gtest/gtest.h>

#include <cmath>

#include "braid/backends/backends.h"
#include "braid/core/random.h"
#include "braid/train/reference_scores.h"
#include "braid/train/run.h"
#include "tests/support/comparator.h"
#include "tests/support/files.h"
#include "tests/support/small_models.h"

namespace braid::test {
namespace {

namespace fs = std::filesystem;

using train::PairScore;

constexpr std::string_view kPairs =
    R"({"prompt": "1 2 3 ", "chosen": "4 5", "rejected": "seven and eight"}
{"prompt": [{"role": "user", "content": "Hi"}], "chosen": "Hello there", "rejected": "No"}
)";

TEST(Preference, LossOfTwoPairsByHand) {
  const std::vector<PairScore> policy{{-1.0, -1.5}, {-2.0, -0.5}}, reference{{-1.25, -1.25}, {-2.0, -0.75}};
  const auto got = train::preference_loss(policy, reference, {.beta = 5});
  // Margins: 5 · (0.25 − −0.25) = 2.5 and 5 · (0 − 0.25) = −1.25.
  const double first = std::log(1 + std::exp(-2.5)), second = std::log(1 + std::exp(1.25));
  EXPECT_NEAR(got.loss, (first + second) / 2, 1e-15);
  EXPECT_DOUBLE_EQ(got.margin, (2.5 - 1.25) / 2);
  EXPECT_DOUBLE_EQ(got.accuracy, 0.5);
  EXPECT_NEAR(got.slopes[0].chosen, -0.5 * 5 / (1 + std::exp(2.5)), 1e-15);
  EXPECT_NEAR(got.slopes[1].rejected, 0.5 * 5 / (1 + std::exp(-1.25)), 1e-15);
  for (const auto& s : got.slopes) EXPECT_EQ(s.chosen, -s.rejected);
}

// What the term adds: α · (1 + 2) / 2 to what is minimised, −α / 2 to each chosen response's slope.
TEST(Preference, ChosenResponsesCrossEntropyByHand) {
  const std::vector<PairScore> policy{{-1.0, -1.5}, {-2.0, -0.5}}, reference{{-1.25, -1.25}, {-2.0, -0.75}};
  const auto plain = train::preference_loss(policy, reference, {.beta = 5});
  const auto got = train::preference_loss(policy, reference, {.beta = 5, .chosen_weight = 0.75});
  EXPECT_DOUBLE_EQ(got.chosen_loss, 1.5);
  EXPECT_EQ(plain.chosen_loss, got.chosen_loss);
  EXPECT_EQ(got.loss, plain.loss);
  EXPECT_EQ(got.margin, plain.margin);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_DOUBLE_EQ(got.slopes[i].chosen, plain.slopes[i].chosen - 0.375);
    EXPECT_EQ(got.slopes[i].rejected, plain.slopes[i].rejected);
  }
}

TEST(Preference, PolicyThatIsTheReferenceLosesLogTwoAndHugeMarginsStayFinite) {
  const std::vector<PairScore> same{{-3, -4}};
  EXPECT_DOUBLE_EQ(train::preference_loss(same, same, {.beta = 5}).loss, std::log(2.0));
  EXPECT_EQ(train::preference_loss(same, same, {.beta = 5}).accuracy, 0);
  const std::vector<PairScore> far{{0, -1000}};
  EXPECT_EQ(train::preference_loss(far, same, {.beta = 5}).loss, 0);
  EXPECT_NEAR(train::preference_loss(same, far, {.beta = 5}).loss, 5 * (1000 - 1), 1e-9);
}

// Responses of 12, 3, 4 and 16 targets in one batch.
struct Pairs {
  explicit Pairs(const fs::path& folder) {
    data = train::read_preferences({put(folder / "pairs.jsonl", kPairs)}, *tokenizer, 96);
    batch = train::assemble_pairs(data, std::vector<std::int64_t>{1, 0}, 96, 256);
  }
  std::unique_ptr<text::Tokenizer> tokenizer = text::byte_tokenizer();
  train::Preferences data;
  data::Batch batch;
};

TEST(Preference, BatchesPredictResponsesAlone) {
  const TemporaryFolder folder;
  const Pairs pairs(folder.path());
  const auto& b = pairs.batch;
  EXPECT_EQ(b.instances, 4);
  std::vector<std::string> responses;
  for (std::size_t row = 0; row < 4; ++row) {
    std::vector<text::TokenId> targets;
    for (std::size_t i = row * 96; i < row * 96 + 96; ++i) {
      if (b.targets[i] < 0) continue;
      EXPECT_EQ(b.targets[i], b.ids[i + 1]);
      targets.push_back(b.targets[i]);
    }
    responses.push_back(pairs.tokenizer->decode(targets));
  }
  EXPECT_EQ(responses, (std::vector<std::string>{"Hello there<|im_end|>", "No<|im_end|>", "4 5<|endoftext|>",
                                                 "seven and eight<|endoftext|>"}));
  EXPECT_EQ(b.predicted, 12 + 3 + 4 + 16);
  EXPECT_EQ(b.segment_offsets, (std::vector<std::int32_t>{0, 96, 192, 288, 384}));
}

// A model in f64 on the reference backend.
class Model64 {
 public:
  Model64() {
    config_ = small_models()[0].config;
    config_.vocabulary_size = 259;
    config_.hidden_size = 16;
    config_.intermediate_size = 24;
    config_.layers = {model::LayerType::linear_attention, model::LayerType::full_attention};
    const model::ParameterTypes types{DType::f64, DType::f64};
    parameters_ = model::ParameterSet(config_, types);
    gradients_ = model::ParameterSet(config_, types);
    Random random(5);
    for (const auto& [spec, t] : model::list(parameters_.tree(), config_)) {
      const double mean = spec.initializer == nn::Initializer::ones ? 1 : 0;
      for (std::int64_t i = 0; i < t.count(); ++i) t.as<double>()[i] = mean + 0.2 * random.normal();
    }
  }

  std::vector<double> token_losses(const data::Batch& batch) {
    return run(batch, [&](Context& ctx, Arena& step, const model::TokenLosses& losses,
                          const model::Policy& policy, const model::Batch& on_device) {
      model::score(ctx, step, losses, parameters_.tree(), policy, on_device);
    });
  }
  void differentiate(const data::Batch& batch) {
    run(batch, [&](Context& ctx, Arena& step, const model::TokenLosses& losses, const model::Policy& policy,
                   const model::Batch& on_device) {
      model::loss_and_gradients(
          ctx, step, losses, gradients_.tree(), parameters_.tree(), policy, on_device,
          {.scale = model::upload(ctx, step, std::array{1 / static_cast<double>(batch.predicted)})});
    });
  }
  const model::ModelConfig& config() const { return config_; }
  const model::ParameterSet& parameters() const { return parameters_; }
  const model::ParameterSet& gradients() const { return gradients_; }

 private:
  template <class Work>
  std::vector<double> run(const data::Batch& b, Work&& work) {
    std::vector<double> out;
    model::run_once(backend_, [&](Context& ctx, Arena& step) {
      const auto policy = model::make_policy(ctx, step, config_, b.sequence_length, DType::f64);
      const model::HostBatch host{b.ids, b.targets, b.positions, b.segment_offsets, b.weights};
      const auto n = static_cast<std::int64_t>(b.ids.size());
      const model::TokenLosses losses{step.make(DType::f64, {n}), step.make(DType::f64, {n})};
      work(ctx, step, losses, policy, host.upload(ctx, step));
      if (losses.loss.data != nullptr) out = to_host<double>(*ctx.memory, losses.loss);
    });
    return out;
  }

  Backend backend_ = make_backend("reference");
  model::ModelConfig config_;
  model::ParameterSet parameters_, gradients_;
};

// Mean log-probability of each response, in f64.
std::vector<PairScore> scores_of(const data::Batch& b, const std::vector<double>& losses) {
  std::vector<PairScore> scores(static_cast<std::size_t>(b.instances / 2));
  for (std::size_t row = 0; row < static_cast<std::size_t>(b.instances); ++row) {
    double sum = 0, count = 0;
    for (std::size_t i = row * 96; i < row * 96 + 96; ++i) {
      if (b.targets[i] >= 0) sum -= losses[i], count += 1;
    }
    (row % 2 == 0 ? scores[row / 2].chosen : scores[row / 2].rejected) = sum / count;
  }
  return scores;
}

void expect_gradient_of_differences(const train::PreferenceLossOptions& options) {
  const TemporaryFolder folder;
  Pairs pairs(folder.path());
  Model64 model;
  const std::vector<PairScore> reference{{-5.1, -5.6}, {-5.9, -5.2}};
  const auto loss = [&] {
    return train::preference_loss(scores_of(pairs.batch, model.token_losses(pairs.batch)), reference,
                                  options);
  };
  const auto minimised = [&] {
    const auto l = loss();
    return l.loss + options.chosen_weight * l.chosen_loss;
  };
  const auto at = loss();
  pairs.batch.weights = train::token_weights(pairs.batch, at.slopes);
  model.differentiate(pairs.batch);
  const auto parameters = model::list(model.parameters().tree(), model.config());
  const auto gradients = model::list(model.gradients().tree(), model.config());
  double worst = 0, scale = 0;
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    // The element that matters most.
    const double* d = gradients[p].tensor.as<double>();
    std::int64_t i = 0;
    for (std::int64_t j = 0; j < gradients[p].tensor.count(); ++j)
      i = std::abs(d[j]) > std::abs(d[i]) ? j : i;
    double& x = parameters[p].tensor.as<double>()[i];
    const double value = x, step = 1e-5;
    x = value + step;
    const double above = minimised();
    x = value - step;
    const double below = minimised();
    x = value;
    const double want = (above - below) / (2 * step);
    EXPECT_NE(want, 0) << parameters[p].spec.name;
    worst = std::max(worst, std::abs(d[i] - want));
    scale = std::max(scale, std::abs(want));
  }
  // The weights are f32: each row's part is wrong by up to 2^-24 of itself, and the rows of a pair cancel in
  // part.
  EXPECT_LT(worst / scale, 1e-6);
  EXPECT_GT(scale, 1e-3);
}

TEST(Preference, GradientOfTheWholeLossIsThatOfDifferences) { expect_gradient_of_differences({.beta = 5}); }
TEST(Preference, GradientWithChosenResponsesCrossEntropyIsThatOfDifferences) {
  expect_gradient_of_differences({.beta = 5, .chosen_weight = 0.75});
}

TEST(Preference, FilesAreReadStrictly) {
  const TemporaryFolder folder;
  const auto tokenizer = text::byte_tokenizer();
  const auto error = [&](const std::string& line, std::int64_t length = 96) {
    const auto file = put(folder / "pairs.jsonl", std::string(kPairs) + line + "\n");
    return message_of([&] { train::read_preferences({file}, *tokenizer, length); });
  };
  EXPECT_HOLDS(error(R"({"prompt": "a", "chosen": "b"})"), "pairs.jsonl:3: field 'rejected'");
  EXPECT_HOLDS(error(R"({"prompt": "a", "chosen": "b", "rejected": "b"})"), "same as 'chosen'");
  EXPECT_HOLDS(error(R"({"prompt": "", "chosen": "b", "rejected": "c"})"), "is empty");
  EXPECT_HOLDS(error(R"({"prompt": "a", "chosen": "b", "rejected": "c", "score": 1})"), "'score'");
  EXPECT_HOLDS(error(R"({"prompt": "a", "chosen": "b<|im_end|>", "rejected": "c"})"), "field 'chosen' holds");
  EXPECT_HOLDS(
      error(R"({"prompt": [{"role": "assistant", "content": "a"}], "chosen": "b", "rejected": "c"})"),
      "ends with a message of the assistant");
  EXPECT_HOLDS(error("", 8), "2 are longer");
  const auto some = train::read_preferences({put(folder / "pairs.jsonl", kPairs)}, *tokenizer, 30);
  EXPECT_EQ(some.pairs.size(), 1u);
  EXPECT_EQ(some.left_out, 1);
}

TEST(Preference, ReferenceScoresAreUsedAgainOnlyForWhatTheyAreOf) {
  const TemporaryFolder folder;
  const auto path = folder / "scores";
  const train::ReferenceKey key{"aa", "bb"};
  const std::vector<PairScore> scores{{-1, -2}, {-0.25, -3}};
  train::write_reference_scores(path, key, scores);
  EXPECT_EQ(train::read_reference_scores(path, key, 2), scores);
  EXPECT_EQ(train::read_reference_scores(path, {"aa", "cc"}, 2), std::nullopt);
  EXPECT_EQ(train::read_reference_scores(path, {"ab", "bb"}, 2), std::nullopt);
  EXPECT_EQ(train::read_reference_scores(path, key, 3), std::nullopt);
  auto bytes = io::read_file(path);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  put(path, bytes);
  EXPECT_EQ(train::read_reference_scores(path, key, 2), std::nullopt);
  EXPECT_HOLDS(message_of([&] { train::write_reference_scores(path, key, {{-1, NAN}}); }), "pair 0");
}

train::RunConfig recipe(const fs::path& folder, std::vector<std::string> overrides = {}) {
  put(folder / "pairs.jsonl", kPairs);
  put(folder / "dpo.toml", fmt::format(R"([run]
folder = "{0}/run"
[data]
preferences = ["{0}/pairs.jsonl"]
sequence_length = 96
[model]
layers = 4
hidden_size = 16
heads = 2
intermediate_size = 32
[train]
objective = "dpo"
steps = 6
batch_size = 4
micro_batch_size = 2
[optimizer]
z_loss = 0
weight_decay = 0
[schedule]
learning_rate = 0.01
decay = "constant"
[checkpoint]
every = 2
)",
                                       folder.string()));
  return train::read_run_config(folder / "dpo.toml", overrides);
}

struct Stop {};

void run(const train::RunConfig& config, std::int64_t stop_after = -1) {
  const Backend backend = make_backend("cpu", {.threads = 1, .target = {}});
  train::run(backend, config,
             {.started = {},
              .stepped =
                  [&](const train::StepProgress& p) {
                    if (p.step == stop_after) throw Stop{};
                  },
              .validated = {},
              .noticed = {}});
}

TEST(Preference, RunsLearnThePairsAndResumeBitForBit) {
  const TemporaryFolder folder, other;
  run(recipe(folder.path()));
  const auto metrics = io::read_file(folder / "run/metrics.jsonl");
  std::vector<nlohmann::json> lines;
  for (std::size_t at = 0; at < metrics.size(); at = metrics.find('\n', at) + 1) {
    lines.push_back(nlohmann::json::parse(metrics.substr(at, metrics.find('\n', at) - at)));
  }
  ASSERT_EQ(lines.size(), 6u);
  // Before the first step the policy is the reference; f32 sums differ with the batch.
  EXPECT_NEAR(lines[0]["dpo_loss"], std::log(2.0), 1e-5);
  EXPECT_LT(lines[5]["dpo_loss"], 0.3);
  EXPECT_EQ(lines[5]["reward_accuracy"], 1);
  EXPECT_GT(lines[5]["reward_margin"], 1);
  EXPECT_FALSE(lines[5].contains("chosen_loss"));

  EXPECT_THROW(run(recipe(other.path()), 3), Stop);
  fs::remove(other / "run/reference_scores.safetensors");  // made again from the initial weights
  run(recipe(other.path()));
  EXPECT_EQ(io::read_file(other / "run/metrics.jsonl"), metrics);
  EXPECT_EQ(io::read_file(other / "run/model/model.safetensors"),
            io::read_file(folder / "run/model/model.safetensors"));
}

TEST(Preference, ChosenResponsesAreLearntWhereTheirCrossEntropyHasAWeight) {
  const TemporaryFolder folder;
  run(recipe(folder.path(), {"train.dpo_chosen_weight=1"}));
  const auto metrics = io::read_file(folder / "run/metrics.jsonl");
  const auto first = nlohmann::json::parse(metrics.substr(0, metrics.find('\n')));
  const auto start = metrics.rfind('\n', metrics.size() - 2) + 1;
  const auto last = nlohmann::json::parse(metrics.substr(start));
  EXPECT_NEAR(first["dpo_loss"], std::log(2.0), 1e-5);  // without the term
  EXPECT_GT(first["chosen_loss"], 4);                   // near log of the vocabulary, 320
  EXPECT_LT(last["chosen_loss"], first["chosen_loss"].get<double>() - 0.5);
}

TEST(Preference, ARunDoesNotGoOnAgainstAnotherReference) {
  const TemporaryFolder folder;
  run(recipe(folder.path(), {"run.folder='" + (folder / "before").string() + "'", "train.steps=1"}));
  const auto next = recipe(folder.path(), {"model={start_from='" + (folder / "before").string() + "'}"});
  const auto model = folder / "before/model", weights = model / "model.safetensors";
  fs::remove(model / "checksums.json");
  EXPECT_THROW(run(next, 3), Stop);
  const auto bytes = io::read_file(weights);
  auto changed = bytes;
  changed[changed.size() - 2] = static_cast<char>(changed[changed.size() - 2] ^ 1);
  put(weights, changed);
  EXPECT_HOLDS(message_of([&] { run(next); }), "or from another model");
  put(weights, bytes);
  run(next);
}

// With checksums a start reads none of the weights again, and another model shows all the same.
TEST(Preference, ChecksumsTellModelsApart) {
  const TemporaryFolder folder;
  const auto model_of = [&](const std::string& name, int seed) {
    run(recipe(folder.path(), {"run.folder='" + (folder / name).string() + "'", "train.steps=1",
                               fmt::format("seed={}", seed)}));
    return folder / name / "model";
  };
  const auto model = model_of("before", 1), other = model_of("other", 2);
  const auto next = recipe(folder.path(), {"model={start_from='" + model.string() + "'}"});
  const auto first = train::hash_initial_weights(next);
  const auto weights = io::read_file(model / "model.safetensors");
  put(model / "model.safetensors", std::string(weights.size(), 'x'));
  EXPECT_EQ(train::hash_initial_weights(next), first);
  EXPECT_HOLDS(message_of([&] { run(next); }), "model.safetensors");  // but nobody trains on it
  put(model / "model.safetensors", weights);
  EXPECT_THROW(run(next, 3), Stop);
  for (const auto* file : {"model.safetensors", "checksums.json"}) {
    fs::copy_file(other / file, model / file, fs::copy_options::overwrite_existing);
  }
  EXPECT_HOLDS(message_of([&] { run(next); }), "or from another model");
}

TEST(Preference, WithoutChecksumsWeightsAreHashedOnceUntilTheyChange) {
  const TemporaryFolder folder;
  run(recipe(folder.path(), {"run.folder='" + (folder / "before").string() + "'", "train.steps=1"}));
  const auto model = folder / "before/model", kept = folder / "run/reference_weights.json";
  fs::remove(model / "checksums.json");
  fs::create_directories(folder / "run");
  const auto next = recipe(folder.path(), {"model={start_from='" + model.string() + "'}"});
  const auto hash = train::hash_initial_weights(next);
  auto text = io::read_file(kept);
  // What is kept is used: another hash in it comes back.
  auto json = nlohmann::ordered_json::parse(text);
  json["hash"] = std::string(32, '7');
  put(kept, json.dump());
  EXPECT_NE(train::hash_initial_weights(next), hash);
  // Not for a file that was touched, nor from a damaged file.
  put(model / "model.safetensors", io::read_file(model / "model.safetensors"));
  EXPECT_EQ(train::hash_initial_weights(next), hash);
  put(kept, "{");
  EXPECT_EQ(train::hash_initial_weights(next), hash);
}

TEST(Preference, HeldOutPairsAreValidated) {
  const TemporaryFolder folder;
  put(folder / "held_out.jsonl", kPairs);  // those it trains on: they must get better
  const std::vector<std::string> changes{
      "data.validation_preferences=['" + (folder / "held_out.jsonl").string() + "']", "validation.every=3"};
  run(recipe(folder.path(), changes));
  const auto metrics = io::read_file(folder / "run/metrics.jsonl");
  std::vector<nlohmann::json> lines;
  for (std::size_t at = 0; at < metrics.size(); at = metrics.find('\n', at) + 1) {
    auto line = nlohmann::json::parse(metrics.substr(at, metrics.find('\n', at) - at));
    if (line.contains("validation_loss")) lines.push_back(std::move(line));
  }
  ASSERT_EQ(lines.size(), 3u);  // before the first step, after 3 and 6
  EXPECT_EQ(lines[0]["step"], 0);
  EXPECT_NEAR(lines[0]["validation_loss"], std::log(2.0), 1e-12) << "the policy is the reference";
  EXPECT_EQ(lines[0]["validation_reward_margin"], 0);
  EXPECT_EQ(lines[0]["source"], "preferences");
  EXPECT_LT(lines[2]["validation_loss"], lines[1]["validation_loss"]);
  EXPECT_GT(lines[2]["validation_reward_margin"], 1);
  EXPECT_EQ(lines[2]["validation_reward_accuracy"], 1);
  // Validation changes nothing, and neither does a stop in between.
  const TemporaryFolder plain, stopped;
  run(recipe(plain.path()));
  EXPECT_EQ(io::read_file(plain / "run/model/model.safetensors"),
            io::read_file(folder / "run/model/model.safetensors"));
  put(stopped / "held_out.jsonl", kPairs);
  const std::vector<std::string> there{
      "data.validation_preferences=['" + (stopped / "held_out.jsonl").string() + "']", "validation.every=3"};
  EXPECT_THROW(run(recipe(stopped.path(), there), 4), Stop);
  run(recipe(stopped.path(), there));
  EXPECT_EQ(io::read_file(stopped / "run/metrics.jsonl"), metrics);
  auto other = there;
  other[0] = "data.validation_preferences=[]";
  fs::remove_all(stopped / "run/model");
  EXPECT_HOLDS(message_of([&] { run(recipe(stopped.path(), other)); }), "validation_preferences");
}

TEST(Preference, RecipesThatCannotBeAreRefused) {
  const TemporaryFolder folder;
  const auto error = [&](const std::vector<std::string>& changes) {
    return message_of([&] { recipe(folder.path(), changes); });
  };
  EXPECT_HOLDS(error({"train.batch_size=3", "train.micro_batch_size=3"}), "is odd");
  EXPECT_HOLDS(error({"train.batch_warmup=[[3, 1]]", "train.micro_batch_size=1"}),
               "a batch of 1, which is odd");
  EXPECT_HOLDS(error({"data.kind='packed'"}), "does not go with 'preferences'");
  EXPECT_HOLDS(error({"data.instance_filter=true"}), "does not go with 'preferences'");
  EXPECT_HOLDS(error({"optimizer.z_loss=1e-5"}), "must be set to 0");
  EXPECT_HOLDS(error({"train.dpo_chosen_weight=-1"}), "train.dpo_chosen_weight");
  EXPECT_HOLDS(error({"train.objective='next_token'"}), "must be \"dpo\"");
  EXPECT_HOLDS(error({"data.train=['a.u16']"}), "beside 'preferences'");
}

}  // namespace
}  // namespace braid::test

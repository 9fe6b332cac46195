// Where NaN and infinity come from is named, and nothing has changed by then.
#include <cstring>
#include <limits>

#include "tests/train/trainer_support.h"

namespace braid::test {
namespace {

constexpr float kHuge = 3e38F;  // two of them overflow

void fill_all(const Tensor& t, float value) { std::fill_n(t.as<float>(), t.count(), value); }

// The error of a step, which must leave parameters, moments and counts as they are.
std::string error_of(SmallTrainer& t, const data::Batch& batch) {
  const Snapshot before(t.trainer);
  const auto state = t.trainer.state();
  const auto message = message_of([&] { t.trainer.step(batch, 7); });
  // NaN is not equal to itself: compared as bytes.
  const Snapshot after(t.trainer);
  for (std::size_t i = 0; i < after.values.size(); ++i) {
    EXPECT_EQ(std::memcmp(after.values[i].data(), before.values[i].data(), 4 * after.values[i].size()), 0);
  }
  EXPECT_EQ(t.trainer.state(), state);
  EXPECT_HOLDS(message, "step 7: ");
  return message;
}

TEST(NonFinite, ABadWeightIsNamed) {
  SmallTrainer t(small_training());
  t.parameter("model.layers.2.mlp.down_proj.weight").as<float>()[2 * 80 + 5] = std::nanf("");
  EXPECT_HOLDS(
      error_of(t, random_batch(t.config, 4, 1)),
      "parameter model.layers.2.mlp.down_proj.weight is not finite (NaN at row 2, column 5) already");
}

// In the memory of every plan: the search must not need more than a step.
TEST(NonFinite, TheFirstLayerToOverflowIsNamed) {
  for (std::size_t m = 0; m < small_models().size(); ++m) {
    for (const auto recompute : {train::Recompute::none, train::Recompute::block}) {
      auto config = small_training(m);
      config.recompute = recompute;
      const auto layers = config.model.layers.size();
      for (std::size_t layer = 0; layer < layers; layer += layers - 1) {
        SmallTrainer t(config);
        fill_all(t.parameter(fmt::format("model.layers.{}.mlp.gate_up_proj.weight", layer)), 1e30F);
        const auto message = error_of(t, random_batch(config, 4, 1));
        EXPECT_HOLDS(message, fmt::format("the output of layer {} (feed-forward) is the first", layer));
        EXPECT_HOLDS(message, ", channel ");
      }
    }
  }
}

TEST(NonFinite, TheMixerIsNamedByItsKind) {
  const auto config = small_training();
  for (const auto* backend : {"reference", "cpu"}) {
    SmallTrainer linear(config, backend), attention(config, backend);
    fill_all(linear.parameter("model.layers.1.linear_attn.o_proj.weight"), kHuge);
    EXPECT_HOLDS(error_of(linear, random_batch(config, 4, 1)), "the output of layer 1 (linear_attention)");
    fill_all(attention.parameter("model.layers.3.self_attn.v_proj.weight"), 1e30F);
    fill_all(attention.parameter("model.layers.3.self_attn.o_proj.weight"), 1e30F);
    EXPECT_HOLDS(error_of(attention, random_batch(config, 4, 1)), "the output of layer 3 (full_attention)");
  }
}

TEST(NonFinite, EmbeddingNormAndHeadAreNamed) {
  const auto config = small_training();
  const auto batch = random_batch(config, 4, 1);
  SmallTrainer norm(config);
  fill_all(norm.parameter("model.norm.weight"), kHuge);
  EXPECT_HOLDS(error_of(norm, batch), "the output of the final norm");
  SmallTrainer head(config);
  fill_all(head.parameter("lm_head.weight"), kHuge);
  EXPECT_HOLDS(error_of(head, batch), "the loss over the head's logits is the first");
}

// Only the second micro-batch holds the token whose huge embedding overflows a layer.
TEST(NonFinite, TheSequenceAndTokenAreNamed) {
  const auto config = small_training();
  SmallTrainer t(config);
  auto batch = random_batch(config, 4, 1);
  std::ranges::replace(batch.ids, 95, 94);
  batch.ids[3 * kLength + 20] = 95;
  const auto embedding = t.parameter("model.embed_tokens.weight");
  const auto width = config.model.hidden_size;
  std::fill_n(embedding.as<float>() + 95 * width, width, kHuge);
  const auto message = error_of(t, batch);
  EXPECT_HOLDS(message, "the output of layer ");
  EXPECT_HOLDS(message, "at sequence 3, token 20, channel");
}

// Logits of a moderate size from a huge head and a tiny norm; the gradient through the head overflows.
TEST(NonFinite, TheFirstGradientIsNamed) {
  const auto config = small_training();
  SmallTrainer t(config, "reference");
  auto batch = random_batch(config, 4, 1);
  for (auto& target : batch.targets) target = target < 0 ? -1 : 0;
  batch.predicted = 1;  // gradients of the sum
  fill_all(t.parameter("model.norm.weight"), 2e-38F);
  const auto head = t.parameter("lm_head.weight");
  fill_all(head, 0);
  for (std::int64_t v = 0; v < config.model.vocabulary_size; ++v) {
    head.as<float>()[v * config.model.hidden_size] = v == 0 ? -kHuge : kHuge;
  }
  const auto message = error_of(t, batch);
  EXPECT_HOLDS(message, "the first gradient in backward, model.norm.weight");
}

// The target's logit is -infinity in one of the two, so that the loss is infinite and every gradient finite.
TEST(NonFinite, AnInfiniteLossAloneUpdatesNothing) {
  for (const float sign : {-1.0F, 1.0F}) {
    const auto config = small_training();
    SmallTrainer t(config);
    auto batch = random_batch(config, 4, 1);
    std::ranges::fill(batch.targets, -1);
    batch.targets[3] = 9;
    t.parameter("model.norm.weight").as<float>()[0] = 1e6F;
    t.parameter("lm_head.weight").as<float>()[9 * config.model.hidden_size] = sign * kHuge;
    EXPECT_HOLDS(error_of(t, batch), "the loss over the head's logits");
  }
}

// The third of five steps has a token whose embedding is huge: those after it change nothing more.
TEST(NonFinite, AnEnqueuedStepIsNamedLaterAndTheRestUpdatesNothing) {
  const auto config = small_training();
  SmallTrainer t(config), until(config);
  const auto width = config.model.hidden_size;
  for (auto* trainer : {&t, &until}) {
    std::fill_n(trainer->parameter("model.embed_tokens.weight").as<float>() + 95 * width, width, kHuge);
  }
  std::vector<data::Batch> batches;
  for (std::uint64_t i = 0; i < 5; ++i) {
    batches.push_back(random_batch(config, 4, i));
    std::ranges::replace(batches.back().ids, 95, 94);
  }
  batches[2].ids[kLength + 20] = 95;
  for (std::int64_t step = 1; step <= 5; ++step) {
    t.trainer.enqueue(batches[static_cast<std::size_t>(step - 1)], step);
    if (step < 3) until.trainer.enqueue(batches[static_cast<std::size_t>(step - 1)], step);
  }
  EXPECT_EQ(t.trainer.tally().failed_step, 3);
  const auto message = message_of([&] { t.trainer.fail_step(batches[2], 3); });
  EXPECT_HOLDS(message, "step 3: the output of layer ");
  EXPECT_HOLDS(message, "at sequence 1, token 20, channel");
  EXPECT_EQ(Snapshot(t.trainer), Snapshot(until.trainer));
  t.trainer.step(batches[3], 4);  // and none is held back any more
}

TEST(NonFinite, NothingBadIsSaved) {
  SmallTrainer t(small_training());
  t.trainer.step(random_batch(t.config, 4, 1), 1);
  t.trainer.require_finite(1);
  Tensor(t.trainer.second_moment().tree().final_norm).as<float>()[4] = std::numeric_limits<float>::infinity();
  EXPECT_HOLDS(
      message_of([&] { t.trainer.require_finite(1); }),
      "after step 1: the second moment of parameter model.norm.weight is not finite (infinity at element 4)");
}

}  // namespace
}  // namespace braid::test

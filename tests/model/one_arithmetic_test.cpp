// The promises of ARCHITECTURE.md, "One arithmetic": what is bitwise, and the bounds of what is not.
#include <gtest/gtest.h>

#include <cstring>

#include "braid/backends/backends.h"
#include "braid/model/session.h"
#include "braid/model/work_memory.h"
#include "braid/ops/elementwise.h"
#include "tests/support/comparator.h"
#include "tests/support/small_models.h"

namespace braid::test {
namespace {

using Tokens = std::vector<std::int32_t>;

// A plain copy of a tensor's values.
struct Copy {
  explicit Copy(const ConstTensor& t)
      : view(t),
        bytes(static_cast<const std::byte*>(t.data), static_cast<const std::byte*>(t.data) + t.bytes()) {
    view.data = bytes.data();
  }
  Copy(const Copy&) = delete;
  ConstTensor view;
  std::vector<std::byte> bytes;
};

// f32 arithmetic in another order; the models are a few layers deep.
constexpr Tolerance kReordered{1e-5, 1e-4};

Backend cpu(Arithmetic arithmetic, int threads = 1) {
  Backend b = make_backend("cpu", {.threads = threads, .target = {}});
  b.arithmetic = arithmetic;
  return b;
}

// Logits (N, V) of packed segments by the training forward, or of the tokens asked for.
std::unique_ptr<Copy> full_logits(const Backend& backend, const model::ModelConfig& config,
                                  const model::Parameters& p, const std::vector<Tokens>& segments,
                                  const Tokens& asked = {}) {
  Tokens ids, positions, offsets{0};
  for (const auto& s : segments) {
    for (std::size_t i = 0; i < s.size(); ++i) positions.push_back(static_cast<std::int32_t>(i));
    ids.insert(ids.end(), s.begin(), s.end());
    offsets.push_back(static_cast<std::int32_t>(ids.size()));
  }
  std::unique_ptr<Copy> out;
  model::run_once(backend, [&](Context& ctx, Arena& step) {
    const auto policy = model::make_policy(ctx, step, config, 256, DType::f32);
    const auto batch = model::HostBatch{ids, {}, positions, offsets}.upload(ctx, step);
    const auto rows = asked.empty() ? ConstTensor{} : model::upload(ctx, step, asked);
    const Tensor logits =
        step.make(DType::f32, {std::ssize(asked.empty() ? ids : asked), config.vocabulary_size});
    model::compute_logits(ctx, step, logits, p, policy, batch, rows);
    if (ctx.device != Device::dry) out = std::make_unique<Copy>(logits);
  });
  return out;
}

class OneArithmetic : public ::testing::TestWithParam<std::size_t> {
 protected:
  OneArithmetic() : model_(small_models()[GetParam()]), parameters_(small_parameters(model_.config, 7)) {}
  Tokens ids(std::int64_t n, std::uint64_t seed) const {
    return small_ids(n, model_.config.vocabulary_size, seed);
  }
  model::Session session(const Backend& b, model::SessionOptions options = {
                                               .sequences = 1, .capacity = 256, .max_tokens = 160}) const {
    return model::Session(b, model_.config, parameters_.tree(), options);
  }
  SmallModel model_;
  model::ParameterSet parameters_;
};

TEST_P(OneArithmetic, LogitsAskedForAreThoseOfAllTokens) {
  const auto text = ids(40, 9);
  const auto backend = cpu(Arithmetic::strict);
  const auto all = full_logits(backend, model_.config, parameters_.tree(), {text});
  const auto some = full_logits(backend, model_.config, parameters_.tree(), {text}, {39, 3});
  expect_same(rows_of(some->view, 0, 1), rows_of(all->view, 39, 1), model_.name);
  expect_same(rows_of(some->view, 1, 1), rows_of(all->view, 3, 1), model_.name);
  auto silent = session(backend), plain = session(backend);
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    EXPECT_FALSE(silent.extend({{text[i]}}, model::LogitRows::none).defined());
    plain.extend({{text[i]}});
  }
  EXPECT_EQ(silent.length(0), 39);
  const Copy want(plain.extend({{text.back()}}));
  expect_same(silent.extend({{text.back()}}), want.view, model_.name + " by steps");
}

TEST_P(OneArithmetic, SameInputsSameBitsForAnyThreads) {
  const auto text = ids(150, 1);
  const auto first = full_logits(cpu(Arithmetic::fast, 2), model_.config, parameters_.tree(), {text});
  const auto again = full_logits(cpu(Arithmetic::fast, 2), model_.config, parameters_.tree(), {text});
  expect_same(again->view, first->view, model_.name + " again");
  const auto strict_one = full_logits(cpu(Arithmetic::strict, 1), model_.config, parameters_.tree(), {text});
  const auto strict_two = full_logits(cpu(Arithmetic::strict, 2), model_.config, parameters_.tree(), {text});
  expect_same(strict_two->view, strict_one->view, model_.name + " strict, 1 and 2 threads");
}

// A packed document, and a row of a batch, is that document alone.
TEST_P(OneArithmetic, PackedDocumentIsThatDocumentAlone) {
  const std::vector<Tokens> segments{ids(33, 1), ids(1, 2), ids(90, 3), ids(64, 4)};
  for (const auto arithmetic : {Arithmetic::strict, Arithmetic::fast}) {
    const auto backend = cpu(arithmetic);
    const auto packed = full_logits(backend, model_.config, parameters_.tree(), segments);
    std::int64_t begin = 0;
    for (const auto& s : segments) {
      const auto alone = full_logits(backend, model_.config, parameters_.tree(), {s});
      const auto mine = rows_of(packed->view, begin, alone->view.shape[0]);
      if (arithmetic == Arithmetic::strict) {
        expect_same(mine, alone->view, model_.name + " strict");
      } else {
        expect_close(mine, alone->view, kReordered, model_.name + " fast");
      }
      begin += alone->view.shape[0];
    }
  }
}

TEST_P(OneArithmetic, PrefillInAnyPartsIsTheTrainingForward) {
  const auto backend = cpu(Arithmetic::fast);
  const auto text = ids(150, 5);
  const auto whole = full_logits(backend, model_.config, parameters_.tree(), {text});
  for (const std::int64_t part : {1, 7, 64, 150}) {
    auto s = session(backend);
    for (std::int64_t at = 0; at < 150; at += part) {
      const auto n = std::min<std::int64_t>(part, 150 - at);
      const auto logits = s.extend({Tokens(text.begin() + at, text.begin() + at + n)}, model::LogitRows::all);
      expect_close(logits, rows_of(whole->view, at, n), kReordered,
                   model_.name + " parts of " + std::to_string(part));
    }
  }
}

TEST_P(OneArithmetic, SequenceInABatchIsThatSequenceAlone) {
  const auto backend = cpu(Arithmetic::strict);
  auto both = session(backend, {.sequences = 3, .capacity = 64, .max_tokens = 64});
  auto alone = session(backend, {.sequences = 1, .capacity = 64, .max_tokens = 64});
  const auto a = ids(20, 1), b = ids(9, 2), next = ids(10, 3);
  // Sequence 1 is idle at first: ragged calls, some of no tokens.
  const Copy got(both.extend({b, {}, a}));
  expect_same(rows_of(got.view, 1, 1), alone.extend({a}), model_.name + " prefill");
  for (const auto id : next) {
    const Copy step(both.extend({{id}, {id}, {id}}));
    expect_same(rows_of(step.view, 2, 1), alone.extend({{id}}), model_.name + " step");
  }
}

TEST_P(OneArithmetic, RolledBackIsNeverDraftedAndAPrefixIsNoPrefix) {
  const auto backend = cpu(Arithmetic::strict);
  const auto prefix = ids(40, 1), draft = ids(12, 2), text = ids(12, 3);
  auto plain = session(backend, {.sequences = 2, .capacity = 128, .max_tokens = 64});
  plain.extend({prefix, {}});
  const Copy want(plain.extend({text, {}}, model::LogitRows::all));

  auto rolled = session(backend, {.sequences = 2, .capacity = 128, .max_tokens = 64});
  rolled.extend({prefix, {}});
  const auto snapshot = rolled.snapshot(0);
  rolled.extend({draft, {}});
  rolled.restore(0, snapshot);
  expect_same(rolled.extend({text, {}}, model::LogitRows::all), want.view, model_.name + " rolled back");
  rolled.restore(1, snapshot);
  expect_same(rolled.extend({{}, text}, model::LogitRows::all), want.view,
              model_.name + " prefix in another sequence");
}

TEST_P(OneArithmetic, ResetLeavesNothingBehind) {
  const auto backend = cpu(Arithmetic::strict);
  const auto text = ids(30, 1);
  auto fresh = session(backend), used = session(backend);
  used.extend({ids(100, 9)});
  used.reset(0);
  const Copy want(fresh.extend({text}, model::LogitRows::all));
  expect_same(used.extend({text}, model::LogitRows::all), want.view, model_.name);
}

struct Differentiated {
  std::unique_ptr<Copy> gradients, losses;
  std::size_t planned_step = 0, planned_scratch = 0, step_peak = 0, scratch_peak = 0;
};

Differentiated differentiate(const Backend& backend, const SmallModel& m, const model::Parameters& p,
                             const model::KeepPlan& keep = {}) {
  const auto ids = small_ids(3 * 70, m.config.vocabulary_size, 3);
  auto targets = small_ids(3 * 70, m.config.vocabulary_size, 4);
  targets[5] = -1;
  const auto layout = model::RowLayout::of(3, 70);
  model::ParameterSet grads(m.config, {});
  Differentiated d;
  const auto work = [&](Context& ctx, Arena& step) {
    const auto policy = model::make_policy(ctx, step, m.config, 70, DType::f32);
    const auto batch = model::HostBatch{ids, targets, layout.positions, layout.offsets}.upload(ctx, step);
    const model::TokenLosses losses{step.make(DType::f32, {210}), step.make(DType::f32, {210})};
    model::loss_and_gradients(
        ctx, step, losses, grads.tree(), p, policy, batch,
        {.scale = model::upload(ctx, step, std::array{1.0 / 209}), .z_loss = 1e-3, .keep = keep});
    if (ctx.device != Device::dry) d.losses = std::make_unique<Copy>(losses.loss);
  };
  model::WorkMemory memory(backend, work);
  memory.run(backend, work);
  d.gradients = std::make_unique<Copy>(grads.flat());
  d.planned_step = memory.step_bytes();
  d.planned_scratch = memory.scratch_bytes();
  d.step_peak = memory.step_peak();
  d.scratch_peak = memory.scratch_peak();
  return d;
}

TEST_P(OneArithmetic, RecomputeChangesNothingButMemory) {
  const auto backend = cpu(Arithmetic::fast);
  const auto kept = differentiate(backend, model_, parameters_.tree());
  std::size_t more = kept.planned_step;
  for (const auto keep : {nn::Keep::mixers, nn::Keep::products, nn::Keep::input}) {
    const auto what = fmt::format("{}, keeping level {}", model_.name, static_cast<int>(keep));
    const auto again = differentiate(backend, model_, parameters_.tree(), model::KeepPlan::all_blocks(keep));
    expect_same(again.gradients->view, kept.gradients->view, what + ": gradients");
    expect_same(again.losses->view, kept.losses->view, what + ": losses");
    // In few blocks, the one that is computed again is larger than what the others need not keep.
    const bool less = keep != nn::Keep::products || model_.config.has_linear();
    EXPECT_LT(again.planned_step, keep == nn::Keep::input ? kept.planned_step : more + (less ? 0 : 1))
        << what;
    more = again.planned_step;
  }
  const auto partly =
      differentiate(backend, model_, parameters_.tree(), {nn::Keep::input, nn::Keep::mixers, 1});
  expect_same(partly.gradients->view, kept.gradients->view, model_.name + " gradients, two levels");
}

TEST_P(OneArithmetic, DryRunFindsTheExactPeak) {
  for (const auto keep : {nn::Keep::all, nn::Keep::mixers, nn::Keep::products, nn::Keep::input}) {
    const auto d =
        differentiate(cpu(Arithmetic::fast), model_, parameters_.tree(), model::KeepPlan::all_blocks(keep));
    EXPECT_EQ(d.planned_step, d.step_peak);
    EXPECT_EQ(d.planned_scratch, d.scratch_peak);
    EXPECT_GT(d.step_peak, 0u);
  }
}

TEST_P(OneArithmetic, CpuIsTheReference) {
  const auto want = differentiate(make_backend("reference"), model_, parameters_.tree());
  const auto got = differentiate(cpu(Arithmetic::fast), model_, parameters_.tree());
  expect_close(got.losses->view, want.losses->view, kReordered, model_.name + " losses");
  expect_close(got.gradients->view, want.gradients->view, {5e-5, 1e-1}, model_.name + " gradients");
}

std::string model_name(const ::testing::TestParamInfo<std::size_t>& info) {
  auto name = small_models()[info.param].name;
  std::ranges::replace(name, '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Models, OneArithmetic, ::testing::Range<std::size_t>(0, small_models().size()),
                         model_name);

}  // namespace
}  // namespace braid::test

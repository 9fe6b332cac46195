// Whole small models on the GPU: judged by the reference, bit-identical when repeated or recomputed, in
// exactly the planned memory, and the same in training, prefill and decode.
#include <cmath>
#include <numeric>

#include "braid/model/session.h"
#include "braid/model/work_memory.h"
#include "tests/support/small_models.h"
#include "tests/support/trial.h"

namespace braid::test {
namespace {

using Tokens = std::vector<std::int32_t>;

struct Differentiated {
  model::ParameterSet gradients;
  std::vector<float> losses;
  std::size_t planned_step = 0, planned_scratch = 0, step_peak = 0, scratch_peak = 0;
};

Tensor host_tensor(std::vector<float>& values) {
  Tensor t;
  t.data = values.data();
  t.shape = {static_cast<std::int64_t>(values.size())};
  return t;
}

// The model's weights in a backend's memory, as it computes with them.
class Weights {
 public:
  Weights(const Backend& backend, const model::ModelConfig& config, const model::ParameterSet& host,
          DType compute)
      : master_(host.copy_in(backend.memory, config)), compute_(compute) {
    if (compute != DType::bf16) return;
    copy_ = model::ComputeCopy(config, master_.tree(), backend.memory);
    const auto from = model::list(master_.tree(), config), to = model::list(copy_.tree(), config);
    model::run_once(backend, [&](Context& ctx, Arena&) {
      for (std::size_t i = 0; i < from.size(); ++i) {
        if (to[i].tensor.data != from[i].tensor.data) {
          implementation<&OpTable::copy>(ctx)(ctx, to[i].tensor, from[i].tensor);
        }
      }
    });
  }
  const model::Parameters& tree() const { return compute_ == DType::bf16 ? copy_.tree() : master_.tree(); }

 private:
  model::ParameterSet master_;
  model::ComputeCopy copy_;
  DType compute_;
};

Differentiated differentiate(const Backend& backend, const SmallModel& m, const Weights& weights,
                             DType compute, const model::KeepPlan& keep = {}) {
  const auto ids = small_ids(3 * 70, m.config.vocabulary_size, 3);
  auto targets = small_ids(3 * 70, m.config.vocabulary_size, 4);
  targets[5] = -1;
  const auto layout = model::RowLayout::of(3, 70);
  const model::ParameterSet grads(m.config, {}, backend.memory);
  Differentiated d;
  const auto work = [&](Context& ctx, Arena& step) {
    const auto policy = model::make_policy(ctx, step, m.config, 70, compute);
    const auto batch = model::HostBatch{ids, targets, layout.positions, layout.offsets}.upload(ctx, step);
    const model::TokenLosses losses{step.make(DType::f32, {210}), step.make(DType::f32, {210})};
    model::loss_and_gradients(
        ctx, step, losses, grads.tree(), weights.tree(), policy, batch,
        {.scale = model::upload(ctx, step, std::array{1.0 / 209}), .z_loss = 1e-3, .keep = keep});
    if (ctx.device != Device::dry) d.losses = to_host<float>(*ctx.memory, losses.loss);
  };
  model::WorkMemory memory(backend, work);
  memory.run(backend, work);
  d.gradients = grads.copy_in(host_memory(), m.config);
  d.planned_step = memory.step_bytes();
  d.planned_scratch = memory.scratch_bytes();
  d.step_peak = memory.step_peak();
  d.scratch_peak = memory.scratch_peak();
  return d;
}

class GpuModel : public ::testing::TestWithParam<std::size_t> {
 protected:
  GpuModel() : model_(small_models()[GetParam()]), host_(small_parameters(model_.config, 7)) {}
  const Backend& cuda() const { return cuda_context().backend(); }

  SmallModel model_;
  model::ParameterSet host_;
};

// How far `got` is from `want`, over all elements.
double relative_error(const ConstTensor& got, const ConstTensor& want) {
  double difference = 0, norm = 0;
  for (std::int64_t i = 0; i < want.count(); ++i) {
    const double d = element(got, i) - element(want, i);
    difference += d * d;
    norm += element(want, i) * element(want, i);
  }
  return std::sqrt(difference / norm);
}

// The weights with the matrices rounded to bf16, in f32.
model::ParameterSet rounded(const model::ModelConfig& config, std::uint64_t seed) {
  auto set = small_parameters(config, seed);
  for (const auto& [spec, t] : model::list(set.tree(), config)) {
    if (spec.role == nn::ParameterRole::precise) continue;
    for (std::int64_t i = 0; i < t.count(); ++i) {
      float& x = t.as<float>()[i];
      x = static_cast<float>(BFloat16(x));
    }
  }
  return set;
}

// Gradient by gradient: a small parameter must not hide behind a large one.
void expect_gradients(const SmallModel& m, const Differentiated& got, const Differentiated& want,
                      Tolerance t) {
  const auto g = model::list(got.gradients.tree(), m.config),
             w = model::list(want.gradients.tree(), m.config);
  for (std::size_t i = 0; i < g.size(); ++i) {
    expect_close(g[i].tensor, w[i].tensor, t, m.name + " " + g[i].spec.name);
  }
}

TEST_P(GpuModel, IsTheReference) {
  const Backend reference = make_backend("reference");
  auto want =
      differentiate(reference, model_, Weights(reference, model_.config, host_, DType::f32), DType::f32);
  auto got = differentiate(cuda(), model_, Weights(cuda(), model_.config, host_, DType::f32), DType::f32);
  expect_close(host_tensor(got.losses), host_tensor(want.losses), {1e-5, 1e-4}, model_.name + " losses");
  expect_gradients(model_, got, want, {1e-3, 1e-1});
}

// What bf16 may cost depends on the model: rounding the matrices alone, with everything else in f32, already
// moves the gradients of these small random ones by several percent. Computing in bf16 may move them three
// times as far.
TEST_P(GpuModel, Bf16StaysNearTheReference) {
  const Backend reference = make_backend("reference");
  auto want =
      differentiate(reference, model_, Weights(reference, model_.config, host_, DType::f32), DType::f32);
  const auto nearby = rounded(model_.config, 7);
  const auto floor =
      differentiate(reference, model_, Weights(reference, model_.config, nearby, DType::f32), DType::f32);
  auto got = differentiate(cuda(), model_, Weights(cuda(), model_.config, host_, DType::bf16), DType::bf16);
  expect_close(host_tensor(got.losses), host_tensor(want.losses), {2e-2, 2e-1}, model_.name + " losses");
  const double inherent = relative_error(floor.gradients.flat(), want.gradients.flat());
  const double error = relative_error(got.gradients.flat(), want.gradients.flat());
  fmt::print("{:<14} gradients: error {:.4f}, matrices rounded alone {:.4f}\n", model_.name, error, inherent);
  EXPECT_LE(error, std::max(5e-2, 3 * inherent)) << model_.name;
}

TEST_P(GpuModel, RepeatedAndRecomputedBitForBitInThePlannedMemory) {
  for (const auto compute : {DType::f32, DType::bf16}) {
    SCOPED_TRACE(name_of(compute));
    const Weights weights(cuda(), model_.config, host_, compute);
    const auto once = differentiate(cuda(), model_, weights, compute);
    EXPECT_EQ(once.planned_step, once.step_peak);
    EXPECT_EQ(once.planned_scratch, once.scratch_peak);
    for (const auto keep : {nn::Keep::all, nn::Keep::mixers, nn::Keep::products, nn::Keep::input}) {
      const auto again = differentiate(cuda(), model_, weights, compute, model::KeepPlan::all_blocks(keep));
      expect_same(again.gradients.flat(), once.gradients.flat(), model_.name + " gradients");
      EXPECT_EQ(again.losses, once.losses) << model_.name;
      EXPECT_EQ(again.planned_step, again.step_peak);
      EXPECT_EQ(again.planned_scratch, again.scratch_peak);
    }
  }
}

std::int64_t count_of(std::size_t n) { return static_cast<std::int64_t>(n); }

// Prefill in parts and (recorded) decode steps of so many equal sequences against the training forward over
// the same tokens.
void expect_sessions_follow(const SmallModel& model, const model::ParameterSet& host,
                            const std::vector<std::int64_t>& parts, std::size_t sequences = 2) {
  const Backend& cuda = cuda_context().backend();
  const auto vocabulary = model.config.vocabulary_size;
  const std::int64_t total = std::accumulate(parts.begin(), parts.end(), std::int64_t{0}) + 1;
  for (const auto& [compute, tolerance] :
       {std::pair{DType::f32, Tolerance{1e-5, 1e-4}}, std::pair{DType::bf16, Tolerance{3e-2, 3e-1}}}) {
    const Weights weights(cuda, model.config, host, compute);
    const auto ids = small_ids(total, vocabulary, 5);
    std::vector<float> full;
    model::run_once(cuda, [&](Context& ctx, Arena& step) {
      const auto policy = model::make_policy(ctx, step, model.config, total, compute);
      const auto layout = model::RowLayout::of(1, total);
      const auto batch = model::HostBatch{ids, {}, layout.positions, layout.offsets}.upload(ctx, step);
      const Tensor logits = step.make(DType::f32, {total, vocabulary});
      model::compute_logits(ctx, step, logits, weights.tree(), policy, batch);
      if (ctx.device != Device::dry) full = to_host<float>(*ctx.memory, logits);
    });
    model::Session session(cuda, model.config, weights.tree(),
                           {.sequences = count_of(sequences),
                            .capacity = total + 27,
                            .max_tokens = count_of(sequences) * std::ranges::max(parts)});
    std::int64_t done = 0;
    for (const std::int64_t count : parts) {
      const Tokens part(ids.begin() + done, ids.begin() + done + count);
      const ConstTensor logits = session.extend(std::vector<Tokens>(sequences, part), model::LogitRows::all);
      for (std::int64_t s = 0; s < count_of(sequences); ++s) {
        const ConstTensor want =
            rows_of(ConstTensor{reshaped(host_tensor(full), {total, vocabulary})}, done, count);
        expect_close(rows_of(logits, s * count, count), want, tolerance,
                     fmt::format("{} {}, tokens {} to {}, sequence {}", model.name, name_of(compute), done,
                                 done + count, s));
      }
      done += count;
    }
    // Of all: with many sequences one's bits may depend on the lengths of the others.
    std::vector<model::Snapshot> snapshots;
    for (std::int64_t s = 0; s < count_of(sequences); ++s) snapshots.push_back(session.snapshot(s));
    const std::vector<Tokens> next(sequences, Tokens(1, ids[static_cast<std::size_t>(done)]));
    const auto keep = [&](const ConstTensor& logits) {
      return std::vector<float>(logits.as<float>(), logits.as<float>() + logits.count());
    };
    const auto first = keep(session.extend(next));
    for (std::int64_t s = 0; s < count_of(sequences); ++s) {
      session.restore(s, snapshots[static_cast<std::size_t>(s)]);
    }
    EXPECT_EQ(keep(session.extend(next)), first) << "rolled back, " << model.name;
  }
}

TEST_P(GpuModel, SessionsFollowTheTrainingForward) {
  expect_sessions_follow(model_, host_, {1, 30, 17, 1, 1, 1, 1, 32});
}

// As many as fill a GPU: products of 9 to 32 rows, then attention and mixers that share out all sequences.
TEST_P(GpuModel, ManySessionsFollowTheTrainingForward) {
  expect_sessions_follow(model_, host_, {33, 5, 1, 1, 1}, 24);
  expect_sessions_follow(model_, host_, {33, 5, 1, 1, 1}, 72);
}

// Parts so long that attention goes through cuDNN, which wants another head width: on empty caches, behind
// other tokens, and where a window's ring has wrapped.
TEST_P(GpuModel, LongPartsFollowTheTrainingForward) {
  auto wide = model_;
  wide.config.attention.head_dim = 16;
  expect_sessions_follow(wide, small_parameters(wide.config, 7), {384, 1, 300, 257, 256, 1, 1, 1});
}

std::string model_name(const ::testing::TestParamInfo<std::size_t>& info) {
  auto name = small_models()[info.param].name;
  std::ranges::replace(name, '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Models, GpuModel, ::testing::Range<std::size_t>(0, small_models().size()),
                         model_name);

}  // namespace
}  // namespace braid::test

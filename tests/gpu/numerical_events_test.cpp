// What the arithmetic bends is counted and told.
#include <cmath>

#include "braid/ops/gated_delta.h"
#include "tests/support/trial.h"

namespace braid::test {
namespace {

constexpr std::int64_t kTokens = 100, kHeads = 2, kKey = 32, kValue = 64;

// Values of the delta rule of magnitude `size`; what the CUDA backend counted while it went over them.
std::uint64_t saturated_by(double size) {
  TestContext& context = cuda_context();
  const auto before = context.backend().numerical_events().saturated;
  const auto trial = run_on(context, DType::bf16, 1, [&](Trial& t) {
    const ops::GatedDeltaInputs in{
        t.tensors.normal("q", t.dtype, {kTokens, kHeads, kKey}),
        t.tensors.normal("k", t.dtype, {kTokens, kHeads, kKey}),
        t.tensors.normal("v", t.dtype, {kTokens, kHeads, kValue}, {.scale = size}),
        t.tensors.uniform("log_decay", t.accumulator(), {kTokens, kHeads}, -0.1, 0),
        t.tensors.uniform("beta", t.accumulator(), {kTokens, kHeads}, 0.5, 1)};
    const auto segments = t.tensors.segments({kTokens});
    const Tensor y = t.tensors.make(t.dtype, in.v.shape);
    const Tensor checkpoints = t.tensors.make(t.dtype, ops::gated_delta_checkpoint_shape(in, segments));
    ops::gated_delta_forward(t.ctx, y, checkpoints, {}, in, segments, {});
    t.result("y", y);
  });
  for (std::int64_t i = 0; i < trial.results[0].tensor.count(); ++i) {
    EXPECT_TRUE(std::isfinite(element(trial.results[0].tensor, i))) << i;
  }
  return context.backend().numerical_events().saturated - before;
}

TEST(GpuNumericalEvents, SaturationIsCounted) {
  EXPECT_EQ(saturated_by(1), 0u);
  const auto count = saturated_by(1e6);
  EXPECT_GT(count, 0u);
  EXPECT_LE(count, static_cast<std::uint64_t>(kTokens * kHeads * kValue));
  EXPECT_EQ(saturated_by(1e6), count) << "counted again";
}

TEST(GpuNumericalEvents, DescriptionNamesTheLibraries) {
  const auto& text = cuda_context().backend().description;
  for (const auto* name : {"driver ", "CUDA ", "cuBLASLt ", "cuDNN"}) {
    EXPECT_NE(text.find(name), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace braid::test

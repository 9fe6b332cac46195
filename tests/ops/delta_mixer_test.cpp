#include "braid/ops/delta_mixer.h"

#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using test::Tolerance;
using test::tolerance_for;
using test::Trial;

struct Case {
  std::int64_t sequences, key_heads, heads, dk, dv, taps;
};

std::string to_string(const Case& c) {
  return fmt::format("{} sequences, {}/{} heads, {} keys, {} values, {} taps", c.sequences, c.key_heads,
                     c.heads, c.dk, c.dv, c.taps);
}

// Two steps, so that the second meets the states that the first left.
void run(Trial& t, const Case& c) {
  const auto C = 2 * c.key_heads * c.dk + c.heads * c.dv;
  const auto precise = t.accumulator();
  const Tensor convolution_state = t.tensors.normal("state", t.dtype, {c.sequences, c.taps - 1, C});
  const Tensor delta = t.tensors.normal("delta", precise, {c.sequences, c.heads, c.dk, c.dv});
  const Tensor weight = t.tensors.normal("convolution", precise, {C, c.taps}, {.scale = 0.5});
  const Tensor a_log = t.tensors.uniform("a_log", precise, {c.heads}, 0, 1);
  const Tensor dt_bias = t.tensors.uniform("dt_bias", precise, {c.heads}, -4, -2);
  const Tensor norm = t.tensors.normal("norm", precise, {c.dv}, {.scale = 0.3, .offset = 1});
  auto segments = t.tensors.segments(std::vector<std::int64_t>(static_cast<std::size_t>(c.sequences), 1));
  segments.longest = 1;
  // bf16: the convolution's rounded results, then the output's own rounding.
  const Tolerance limit = t.dtype == DType::bf16 ? Tolerance{1e-2, 0.2} : tolerance_for(DType::f32, 4 * c.dk);
  for (const auto* step : {"first", "second"}) {
    const auto name = [&](const char* what) { return fmt::format("{} {}", step, what); };
    const Tensor y = t.tensors.make(t.dtype, {c.sequences, c.heads * c.dv});
    const ops::DeltaMixerInputs in{
        .projected = t.tensors.normal(name("projected"), t.dtype, {c.sequences, C}),
        .ab = t.tensors.normal(name("ab"), precise, {c.sequences, 2 * c.heads}),
        .gate = t.tensors.normal(name("gate"), t.dtype, y.shape),
        .convolution = weight,
        .a_log = a_log,
        .dt_bias = dt_bias,
        .norm = norm};
    ops::delta_mixer_step(t.ctx, y, {convolution_state, delta}, in, segments, {.epsilon = 1e-5});
    t.result(name("y"), y, limit);
  }
  t.result("convolution state", convolution_state);
  t.result("delta state", delta, limit);
}

// Whole heads in one block and in several, columns that fill no block, grouped heads, other numbers of taps.
TEST(DeltaMixer, BackendsAgree) {
  for (const Case& c :
       {Case{1, 2, 2, 16, 32, 4},
        {3, 2, 2, 96, 192, 4},
        {2, 3, 3, 40, 200, 4},
        {2, 1, 1, 128, 256, 4},
        {1, 1, 1, 256, 20, 4},
        {2, 2, 4, 24, 48, 4},
        {2, 2, 2, 24, 48, 3},
        {2, 2, 2, 7, 9, 4},
        // More heads than run at once; of a GPU's rings each place is filled up to three times.
        {2201, 1, 1, 16, 32, 4},
        {110, 6, 6, 40, 64, 4},
        {14, 30, 30, 96, 192, 4}}) {
    test::expect_backends_agree(to_string(c), [&](Trial& t) { run(t, c); });
  }
}

// States that are fetched before their turn are the same states: few heads, and more than run at once.
TEST(DeltaMixer, CudaFetchingAheadChangesNoBits) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  test::TestContext& context = test::cuda_context();
  for (const std::int64_t sequences : {2, 14}) {
    const Case c{sequences, 30, 30, 96, 192, 4};
    const auto fetching = [&](Fetch fetch) {
      return test::run_on(
          context, DType::bf16, 7,
          [&](Trial& t) {
            t.ctx.fetch = fetch;
            run(t, c);
            t.ctx.fetch = Fetch::in_turn;
          },
          DType::bf16);
    };
    test::expect_results_same(fetching(Fetch::ahead), fetching(Fetch::in_turn), to_string(c));
  }
}

TEST(DeltaMixer, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const auto zeros = [&](const Shape& shape) { return t.zeros(DType::f32, shape); };
  const ops::DeltaMixerStates states{zeros({2, 3, 16}), zeros({2, 2, 2, 4})};
  const ops::DeltaMixerInputs in{.projected = zeros({2, 16}),
                                 .ab = zeros({2, 4}),
                                 .gate = zeros({2, 8}),
                                 .convolution = zeros({16, 4}),
                                 .a_log = zeros({2}),
                                 .dt_bias = zeros({2}),
                                 .norm = zeros({4})};
  auto one_each = t.segments({1, 1});
  one_each.longest = 1;
  const auto fails = [&](const Tensor& y, const ops::DeltaMixerInputs& inputs, const ops::Segments& segments,
                         const char* why) {
    test::expect_op_error([&] { ops::delta_mixer_step(*context, y, states, inputs, segments, {}); },
                          "delta_mixer_step", why);
  };
  fails(zeros({2, 8}), in, t.segments({2, 0}), "one token each");
  fails(zeros({2, 9}), in, one_each, "y is");
  auto wrong = in;
  wrong.gate = zeros({2, 7});
  fails(zeros({2, 8}), wrong, one_each, "gate is");
  wrong = in;
  wrong.projected = zeros({2, 15});
  fails(zeros({2, 8}), wrong, one_each, "channels");
}

}  // namespace
}  // namespace braid

// The kernel of decoding's delta rule over many heads, against the op's reference.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "braid/backends/cuda/delta_mixer/ring.cuh"
#include "tests/support/trial.h"

namespace braid::cuda::delta_mixer {
namespace {

using test::Tolerance;

struct Case {
  std::int64_t sequences, heads, dk, dv;
  int blocks, stages;
};

template <class T>
constexpr DType kDType = DType::f32;
template <>
constexpr DType kDType<bf16> = DType::bf16;

// Two steps, so that the second meets the states that the first left.
template <int kRows, class T>
void run(const Case& c, std::uint64_t seed) {
  SCOPED_TRACE(fmt::format("{} sequences, {} heads, {} keys, {} values, {} blocks, {} places, {}",
                           c.sequences, c.heads, c.dk, c.dv, c.blocks, c.stages, name_of(kDType<T>)));
  test::TestTensors t(seed, kDType<T>);
  auto reference = test::reference_context();
  const auto channels = c.heads * (2 * c.dk + c.dv);
  const Tensor convolution = t.normal("state", kDType<T>, {c.sequences, kKept, channels}),
               delta = t.normal("delta", DType::f32, {c.sequences, c.heads, c.dk, c.dv});
  const ops::DeltaMixerStates want{t.copy_of(convolution, DType::f64), t.copy_of(delta, DType::f64)};
  ops::DeltaMixerInputs in{
      .projected = {},
      .ab = {},
      .gate = {},

      .convolution = t.normal("convolution", DType::f32, {channels, kTaps}, {.scale = 0.5}),
      .a_log = t.uniform("a_log", DType::f32, {c.heads}, 0, 1),
      .dt_bias = t.uniform("dt_bias", DType::f32, {c.heads}, -4, -2),
      .norm = t.normal("norm", DType::f32, {c.dv}, {.scale = 0.3, .offset = 1})};
  auto segments = t.segments(std::vector<std::int64_t>(static_cast<std::size_t>(c.sequences), 1));
  segments.longest = 1;
  const auto threads = static_cast<unsigned>(32 * kHalves * ((c.dv + kWarpColumns - 1) / kWarpColumns));
  test::emulation::Launch launch{
      .blocks = std::vector<unsigned>(static_cast<std::size_t>(c.blocks)), .threads = threads, .seed = seed};
  std::iota(launch.blocks.rbegin(), launch.blocks.rend(), 0U);
  const Tolerance limit =
      kDType<T> == DType::bf16 ? Tolerance{1e-2, 0.2} : test::tolerance_for(DType::f32, 4 * c.dk);
  for (const auto* step : {"first", "second"}) {
    const auto name = [&](const char* what) { return fmt::format("{} {}", step, what); };
    const Shape shape{c.sequences, c.heads * c.dv};
    in.projected = t.normal(name("projected"), kDType<T>, {c.sequences, channels});
    in.ab = t.normal(name("ab"), DType::f32, {c.sequences, 2 * c.heads});
    in.gate = t.normal(name("gate"), kDType<T>, shape);
    const Tensor y = t.make(kDType<T>, shape), want_y = t.make(DType::f64, shape);
    const auto precise = [&](const ConstTensor& x) { return t.copy_of(x, DType::f64); };
    ops::delta_mixer_step(*reference, want_y, want,
                          {.projected = precise(in.projected),
                           .ab = precise(in.ab),
                           .gate = precise(in.gate),
                           .convolution = precise(in.convolution),
                           .a_log = precise(in.a_log),
                           .dt_bias = precise(in.dt_bias),
                           .norm = precise(in.norm)},
                          segments, {.epsilon = 1e-5});
    const Step<T> arguments = make_step<T>(*reference, y, {convolution, delta}, in, {.epsilon = 1e-5});
    test::emulation::run(launch, [&] { ring_kernel<kRows, T>(arguments, c.stages); });
    test::expect_close(y, want_y, limit, name("y"));
  }
  test::expect_close(delta, want.delta, limit, "delta state");
  test::expect_close(convolution, want.convolution, test::tolerance_for(kDType<T>), "convolution state");
}

TEST(EmulatedDeltaMixer, IsTheOp) {
  run<12, float>({5, 3, 96, 192, 4, 3}, 1);
  run<12, bf16>({5, 3, 96, 192, 4, 3}, 2);
  // Every place filled many times, by one block and by several; widths that fill no warp, keys that fill no
  // thread.
  run<4, float>({11, 3, 16, 32, 1, 2}, 3);
  run<8, float>({7, 5, 40, 36, 3, 2}, 4);
  run<8, bf16>({40, 1, 64, 64, 2, 8}, 5);
  run<16, float>({9, 2, 128, 64, 5, 4}, 6);
  run<4, float>({3, 1, 20, 200, 2, 2}, 7);
  // More blocks than heads, and as many.
  run<4, float>({2, 1, 32, 32, 4, 2}, 8);
  run<4, float>({2, 2, 32, 32, 4, 2}, 9);
}

}  // namespace
}  // namespace braid::cuda::delta_mixer

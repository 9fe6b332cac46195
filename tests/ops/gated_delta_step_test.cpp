// Decoding with the gated delta rule: one token a sequence, states kept in place.
#include "braid/backends/cuda/gated_delta/choose_config.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/gated_delta.h"
#include "tests/support/cases.h"
#include "tests/support/trial.h"

namespace braid::test {
namespace {

using ops::DeltaMethod;

ops::GatedDeltaInputs make_inputs(Trial& t, const GatedDeltaCase& c, std::int64_t tokens) {
  const Shape key{tokens, c.key_heads, c.key_width}, gate{tokens, c.value_heads};
  return {.q = t.tensors.normal("q", t.dtype, key),
          .k = t.tensors.normal("k", t.dtype, key),
          .v = t.tensors.normal("v", t.dtype, {tokens, c.value_heads, c.value_width}),
          .log_decay = t.tensors.uniform("log_decay", t.accumulator(), gate, -0.2, 0),
          .beta = t.tensors.uniform("beta", t.accumulator(), gate, 0, 2)};
}

ops::GatedDeltaInputs rows_of_inputs(const ops::GatedDeltaInputs& in, std::int64_t begin, std::int64_t rows) {
  return {rows_of(in.q, begin, rows), rows_of(in.k, begin, rows), rows_of(in.v, begin, rows),
          rows_of(in.log_decay, begin, rows), rows_of(in.beta, begin, rows)};
}

Shape state_shape(const GatedDeltaCase& c, std::int64_t sequences) {
  return {sequences, c.value_heads, c.key_width, c.value_width};
}

// Dozens of outputs each: the RMS of fewer bf16 roundings strays.
std::vector<GatedDeltaCase> step_cases() {
  return {{4, 16, 1, 1, {}},   {2, 8, 5, 3, {}},    {1, 1, 32, 64, {}},  {2, 6, 40, 20, {}},
          {1, 1, 64, 72, {}},  {1, 1, 96, 192, {}}, {1, 1, 128, 40, {}}, {2, 4, 144, 8, {}},
          {1, 1, 256, 36, {}}, {1, 4, 256, 5, {}}};
}

// Each of `calls` calls adds a token to every sequence.
TEST(GatedDeltaStep, BatchesAgree) {
  constexpr std::int64_t calls = 3;
  for (const auto& c : step_cases()) {
    for (const std::int64_t sequences : {1, 3}) {
      expect_backends_agree(fmt::format("{}, {} sequences", to_string(c), sequences), [&](Trial& t) {
        const auto in = make_inputs(t, c, calls * sequences);
        const ops::Segments segments =
            t.tensors.segments(std::vector<std::int64_t>(static_cast<std::size_t>(sequences), 1));
        const Tensor state = t.tensors.normal("initial", t.accumulator(), state_shape(c, sequences));
        const Tensor y = t.tensors.make(t.dtype, in.v.shape);
        for (std::int64_t n = 0; n < calls; ++n) {
          ops::gated_delta_forward(t.ctx, rows_of(y, n * sequences, sequences), {}, {state, state},
                                   rows_of_inputs(in, n * sequences, sequences), segments, {});
        }
        t.result("y", y, c.key_width + calls);
        t.result("state", state, c.key_width + calls);
      });
    }
  }
}

// As many tokens as segments does not mean one each.
TEST(GatedDeltaStep, UnequalSegmentsAgree) {
  const GatedDeltaCase c{1, 2, 24, 40, {}};
  for (const Lengths& lengths : {Lengths{0, 2}, Lengths{3, 0, 0}, Lengths{1, 0, 2, 1}, Lengths{0, 0, 3, 1}}) {
    for (const bool in_place : {false, true}) {
      expect_backends_agree(lengths_text(lengths), [&](Trial& t) {
        const auto segments = static_cast<std::int64_t>(lengths.size());
        const auto in = make_inputs(t, c, segments);
        const Tensor initial = t.tensors.normal("initial", t.accumulator(), state_shape(c, segments));
        const Tensor final = in_place ? initial : t.tensors.make(t.accumulator(), initial.shape);
        const Tensor y = t.tensors.make(t.dtype, in.v.shape);
        ops::gated_delta_forward(t.ctx, y, {}, {initial, final}, in, t.tensors.segments(lengths), {});
        t.result("y", y, c.key_width + 3);
        t.result("final", final, c.key_width + 3);
      });
    }
  }
}

TEST(GatedDeltaStep, StatesAreOptional) {
  const GatedDeltaCase c{1, 1, 32, 64, {}};
  expect_backends_agree("no states", [&](Trial& t) {
    const auto in = make_inputs(t, c, 3);
    const ops::Segments segments = t.tensors.segments({1, 1, 1});
    const Tensor y = t.tensors.make(t.dtype, in.v.shape), same = t.tensors.make(t.dtype, in.v.shape);
    const Tensor final = t.tensors.make(t.accumulator(), state_shape(c, 3));
    ops::gated_delta_forward(t.ctx, y, {}, {}, in, segments, {.scale = 0.5});
    ops::gated_delta_forward(t.ctx, same, {}, {{}, final}, in, segments, {.scale = 0.5});
    t.result("y", y, c.key_width);
    t.result("y with a final state", same, c.key_width);
    t.result("final", final, c.key_width);
  });
}

// The reference in f64 gives decode and prefill the same numbers, so each backend's must both be close to
// them.
TEST(GatedDeltaStep, DecodeIsPrefill) {
  constexpr std::int64_t tokens = 70;
  for (const auto& c : {GatedDeltaCase{1, 2, 32, 64, {}}, GatedDeltaCase{1, 1, 96, 192, {}}}) {
    expect_backends_agree(to_string(c), [&](Trial& t) {
      const auto in = make_inputs(t, c, tokens);
      const Tensor initial = t.tensors.normal("initial", t.accumulator(), state_shape(c, 1));
      const Tensor state = t.tensors.copy_of(initial), final = t.tensors.make(initial.dtype, initial.shape);
      const Tensor decoded = t.tensors.make(t.dtype, in.v.shape), y = t.tensors.make(t.dtype, in.v.shape);
      const ops::Segments one = t.tensors.segments({1});
      for (std::int64_t n = 0; n < tokens; ++n) {
        ops::gated_delta_forward(t.ctx, rows_of(decoded, n, 1), {}, {state, state}, rows_of_inputs(in, n, 1),
                                 one, {});
      }
      ops::gated_delta_forward(t.ctx, y, {}, {initial, final}, in, t.tensors.segments({tokens}),
                               {.method = DeltaMethod::recurrent});
      for (const auto& [name, tensor] :
           {std::pair{"decoded y", decoded}, std::pair{"prefilled y", y}, std::pair{"decoded state", state},
            std::pair{"prefilled state", final}}) {
        t.result(name, tensor, c.key_width + tokens);
      }
    });
  }
}

// A sequence whose state is not a number does not touch its neighbours.
TEST(GatedDeltaStep, SequencesAreApart) {
  const GatedDeltaCase c{1, 2, 96, 40, {}};
  expect_backends_agree("NaN in sequence 1", [&](Trial& t) {
    const auto in = make_inputs(t, c, 3);
    const Tensor good = t.tensors.normal("initial", t.accumulator(), state_shape(c, 3));
    const Tensor state = t.tensors.make(good.dtype, good.shape), y = t.tensors.make(t.dtype, in.v.shape);
    for (const std::int64_t s : {0, 2}) ops::copy(t.ctx, rows_of(state, s, 1), rows_of(good, s, 1));
    ops::gated_delta_forward(t.ctx, y, {}, {state, state}, in, t.tensors.segments({1, 1, 1}), {});
    for (const std::int64_t s : {0, 2}) {
      t.result(fmt::format("y {}", s), rows_of(y, s, 1), c.key_width);
      t.result(fmt::format("state {}", s), rows_of(state, s, 1), c.key_width);
    }
  });
}

TEST(GatedDeltaStep, CudaPath) {
  using cuda::choose_config, cuda::DeltaPass, cuda::DeltaPath, cuda::DeltaProblem;
  const DeltaProblem decode{.tokens = 8, .segments = 8, .chunked_supported = true};
  EXPECT_EQ(choose_config(decode), DeltaPath::step);
  for (const auto pass : {DeltaPass::training_forward, DeltaPass::backward}) {
    DeltaProblem p = decode;
    p.pass = pass;
    EXPECT_EQ(choose_config(p), DeltaPath::chunked) << "checkpoints are needed";
    p.chunked_supported = false;
    EXPECT_EQ(choose_config(p), DeltaPath::recurrent);
  }
  DeltaProblem prefill = decode;
  prefill.tokens = 100;
  EXPECT_EQ(choose_config(prefill), DeltaPath::chunked);
  for (const DeltaProblem& p : {decode, prefill}) {
    DeltaProblem forced = p;
    forced.method = DeltaMethod::recurrent;
    EXPECT_EQ(choose_config(forced), DeltaPath::recurrent);
    forced.method = DeltaMethod::chunked;
    EXPECT_EQ(choose_config(forced), DeltaPath::chunked);
    forced.chunked_supported = false;
    EXPECT_EQ(choose_config(forced), DeltaPath::recurrent);
    DeltaProblem strict = p;
    strict.arithmetic = Arithmetic::strict;
    EXPECT_EQ(choose_config(strict), DeltaPath::chunked) << "whatever else is in the call";
  }
}

}  // namespace
}  // namespace braid::test

// The delta rule's gradient kernel (products of a warpgroup) against the op's reference in f64: what the
// kernels before it leave is computed here, from the formulas.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>

#include "braid/backends/cuda/gated_delta/gradient_chunk.cuh"
#include "braid/backends/cuda/launch.h"
#include "tests/ops/gated_delta_support.h"

namespace braid::cuda::chunked {
namespace {

using test::GatedDeltaCase;

double element(const ConstTensor& t, std::int64_t i) { return static_cast<const double*>(t.data)[i]; }

// A call in bf16, the reference's in f64, and what the kernel reads of its own.
struct Call {
  test::TestTensors t;
  test::TestContext reference = test::reference_context();
  GatedDeltaCase shape;
  test::Delta rounded, exact;
  Problem p{};
  Chunks chunks{};
  Tensor scalars, predicted, states, dstates, dq, dk;

  Call(const GatedDeltaCase& c, std::uint64_t seed) : t(seed, DType::bf16), shape(c) {
    rounded = test::make_delta(t, DType::bf16, c);
    const auto precise = [&](const ConstTensor& x) { return t.copy_of(x, DType::f64); };
    exact = rounded;
    exact.in = {precise(rounded.in.q), precise(rounded.in.k), precise(rounded.in.v),
                precise(rounded.in.log_decay), precise(rounded.in.beta)};
    exact.dy = precise(rounded.dy);
    exact.initial = precise(rounded.initial);
    exact.dfinal = precise(rounded.dfinal);
    // Where beta is 0 or tiny the gradient of what is written cannot be told from dv: here it can. And the
    // largest beta.
    for (std::int64_t i = 0; i < exact.in.beta.count(); i += 7) {
      t.set(rounded.beta(), i, i % 2 == 0 ? 0 : kNearlyZero);
      t.set(exact.beta(), i, kNearlyZero);
    }
    for (std::int64_t i = 3; i < exact.in.beta.count(); i += 11) {
      if (i % 7 == 0) continue;
      t.set(rounded.beta(), i, 2);
      t.set(exact.beta(), i, 2);
    }
    test::make_outputs(exact, t);
    exact.run(*reference);
    p = {.segments = {pointer<std::int32_t>(rounded.segments.offsets),
                      static_cast<std::int32_t>(c.lengths.size())},
         .tokens = rounded.tokens(),
         .slots = rounded.tokens() / kChunk + std::ssize(c.lengths),
         .key_heads = static_cast<int>(c.key_heads),
         .value_heads = static_cast<int>(c.value_heads),
         .key_width = static_cast<int>(c.key_width),
         .value_width = static_cast<int>(c.value_width),
         .scale = 1.0F / std::sqrt(static_cast<float>(c.key_width))};
    make_inputs();
  }

  void run(std::uint64_t seed) {
    visit_padded_width(p.key_width, [&]<int kWidth>() {
      test::emulation::Launch l{
          .blocks = std::vector<unsigned>(static_cast<std::size_t>(p.slots * p.value_heads)),
          .threads = kGradientThreads,
          .seed = seed};
      std::iota(l.blocks.begin(), l.blocks.end(), 0U);
      const Inputs in{pointer<bf16>(rounded.in.q), pointer<bf16>(rounded.in.k), pointer<bf16>(rounded.in.v),
                      pointer<float>(rounded.in.log_decay), pointer<float>(rounded.in.beta)};
      const GradientInputs from{pointer<bf16>(rounded.dy), pointer<bf16>(states), pointer<bf16>(dstates)};
      const Gradients out{dq.mutable_data(), dk.mutable_data(), pointer<bf16>(rounded.grads.v),
                          pointer<float>(rounded.grads.log_decay), pointer<float>(rounded.grads.beta)};
      test::emulation::run(l, [&] { gradient_kernel<kWidth>(p, in, chunks, from, out); });
    });
  }

 private:
  static constexpr double kNearlyZero = 1e-30;

  void make_inputs() {
    const auto tokens = rounded.tokens(), heads = shape.value_heads;
    scalars = t.make(DType::f32, {p.slots, heads, kScalars, kChunk});
    predicted = t.make(DType::f16, {p.slots, heads, kChunk, kChunk});
    states = t.copy_of(exact.checkpoints, DType::bf16);
    dstates = t.make(DType::bf16, states.shape);
    chunks.scalars = pointer<float>(scalars);
    chunks.predicted = static_cast<__half*>(predicted.mutable_data());
    const bool parts = p.group() > 1;
    const Shape key{tokens, parts ? heads : shape.key_heads, shape.key_width};
    dq = t.make(parts ? DType::f32 : DType::bf16, key);
    dk = t.make(parts ? DType::f32 : DType::bf16, key);
    for (std::int64_t i = 0; i < exact.grads.v.count(); ++i) {
      const double beta = element(exact.in.beta, i / shape.value_width);
      t.set(rounded.grads.v, i, element(exact.grads.v, i) / (beta == kNearlyZero ? beta : 1));
    }
    std::int64_t begin = 0, segment = 0;
    for (const auto length : shape.lengths) {
      for (std::int64_t at = 0; at < length; at += kChunk) {
        const auto slot = ops::delta_chunk_slot(segment, begin) + at / kChunk;
        const auto rows = std::min<std::int64_t>(kChunk, length - at);
        for (std::int64_t head = 0; head < heads; ++head) make_chunk(slot, begin + at, rows, head);
        const Tensor after = gradient_of_state(segment, begin + at + rows, begin + length, slot + 1);
        const Tensor to = rows_of(dstates, slot, 1);
        for (std::int64_t i = 0; i < to.count(); ++i) t.set(to, i, element(after, i));
      }
      begin += length;
      ++segment;
    }
  }

  // Of the state before token `from`, by the reference on the rest of the segment.
  Tensor gradient_of_state(std::int64_t segment, std::int64_t from, std::int64_t end, std::int64_t slot) {
    if (from == end) return rows_of(exact.dfinal, segment, 1);
    const auto rest = [&](const ConstTensor& x) { return rows_of(x, from, end - from); };
    test::Delta d;
    d.in = {rest(exact.in.q), rest(exact.in.k), rest(exact.in.v), rest(exact.in.log_decay),
            rest(exact.in.beta)};
    d.segments = t.segments({end - from});
    d.dy = rows_of(exact.dy, from, end - from);
    d.initial = rows_of(exact.checkpoints, slot, 1);
    d.dfinal = rows_of(exact.dfinal, segment, 1);
    test::make_outputs(d, t);
    d.run(*reference);
    return d.dinitial;
  }

  // Scalars, and M = A T with T = (1 + diag(β) A)⁻¹ and A = stril(K̂ K̂ᵀ) ∘ Γ.
  void make_chunk(std::int64_t slot, std::int64_t begin, std::int64_t rows, std::int64_t head) {
    const auto width = shape.key_width, key_head = head / p.group();
    const auto at = [&](const ConstTensor& x, std::int64_t row, std::int64_t j) {
      return element(x, ((begin + row) * shape.key_heads + key_head) * width + j);
    };
    const auto gate = [&](const ConstTensor& x, std::int64_t row) {
      return element(x, (begin + row) * shape.value_heads + head);
    };
    const auto inverse_norm = [&](const ConstTensor& x, std::int64_t row) {
      double squares = ops::kDeltaNormEpsilon;
      for (std::int64_t j = 0; j < width; ++j) squares += at(x, row, j) * at(x, row, j);
      return 1 / std::sqrt(squares);
    };
    const auto unit = slot * shape.value_heads + head;
    double total = 0;
    for (std::int64_t i = 0; i < rows; ++i) total += gate(exact.in.log_decay, i);
    std::array<double, kChunk> sum{}, beta{}, norm{};
    double so_far = 0;
    for (std::int64_t i = 0; i < kChunk; ++i) {
      const auto n = static_cast<std::size_t>(i);
      const bool inside = i < rows;
      if (inside) so_far += gate(exact.in.log_decay, i);
      sum[n] = so_far;
      beta[n] = inside ? gate(exact.in.beta, i) : 0;
      norm[n] = inside ? inverse_norm(exact.in.k, i) : 0;
      const double query_norm = inside ? inverse_norm(exact.in.q, i) : 0, gamma = std::exp(so_far);
      const double all[kScalars] = {inside ? gamma * norm[n] : 0,
                                    inside ? gamma * query_norm : 0,
                                    beta[n] == kNearlyZero ? 0 : beta[n],
                                    gamma,
                                    std::exp(total - so_far),
                                    query_norm,
                                    norm[n],
                                    so_far};
      for (int s = 0; s < kScalars; ++s) t.set(scalars, (unit * kScalars + s) * kChunk + i, all[s]);
    }
    std::vector<double> a(kChunk * kChunk), inverse(kChunk * kChunk);
    for (std::size_t i = 0; i < kChunk; ++i) {
      for (std::size_t j = 0; j < i && i < static_cast<std::size_t>(rows); ++j) {
        double dot = 0;
        for (std::int64_t d = 0; d < width; ++d) {
          dot += at(exact.in.k, static_cast<std::int64_t>(i), d) *
                 at(exact.in.k, static_cast<std::int64_t>(j), d);
        }
        a[i * kChunk + j] = dot * norm[i] * norm[j] * std::exp(sum[i] - sum[j]);
      }
    }
    for (std::size_t i = 0; i < kChunk; ++i) {
      for (std::size_t j = 0; j <= i; ++j) {
        double x = i == j ? 1 : 0;
        for (std::size_t l = j; l < i; ++l) x -= beta[i] * a[i * kChunk + l] * inverse[l * kChunk + j];
        inverse[i * kChunk + j] = x;
      }
    }
    for (std::size_t i = 0; i < kChunk; ++i) {
      for (std::size_t j = 0; j < kChunk; ++j) {
        double x = 0;
        for (std::size_t l = 0; l < kChunk; ++l) x += a[i * kChunk + l] * inverse[l * kChunk + j];
        t.set(predicted, unit * kChunk * kChunk + static_cast<std::int64_t>(i * kChunk + j), x);
      }
    }
  }
};

// As chunk_in, one segment after the other.
Chunk chunk_by_walking(const std::vector<std::int64_t>& lengths, std::int64_t slot) {
  std::int64_t begin = 0;
  Chunk at{0, 0};
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    const std::int64_t first = ops::delta_chunk_slot(static_cast<std::int64_t>(s), begin);
    if (first > slot) break;
    at.begin = begin + (slot - first) * kChunk;
    at.rows = static_cast<int>(std::clamp<std::int64_t>(begin + lengths[s] - at.begin, 0, kChunk));
    begin += lengths[s];
  }
  return at;
}

// Sums over the value heads that share a key head.
Tensor summed(test::TestTensors& t, const Tensor& parts, std::int64_t key_heads) {
  const auto group = parts.shape[1] / key_heads, width = parts.shape[2];
  const Tensor exact = t.copy_of(parts, DType::f64);
  const Tensor sum = t.make(DType::f64, {parts.shape[0], key_heads, width});
  for (std::int64_t i = 0; i < sum.count(); ++i) {
    double x = 0;
    for (std::int64_t g = 0; g < group; ++g) x += element(exact, (i / width * group + g) * width + i % width);
    t.set(sum, i, x);
  }
  return sum;
}

void run(const GatedDeltaCase& c, std::uint64_t seed) {
  SCOPED_TRACE(fmt::format("{}, seed {}", to_string(c), seed));
  Call call(c, seed);
  call.run(seed);
  const auto limits = test::rounded_tolerances(test::Regime::ordinary);
  const auto expect = [&](const Tensor& got, const Tensor& want, double limit, const char* name) {
    test::expect_close(got, want, test::Tolerance{limit, 20 * limit}, name);
  };
  expect(summed(call.t, call.dq, c.key_heads), call.exact.grads.q, limits.dq, "dq");
  expect(summed(call.t, call.dk, c.key_heads), call.exact.grads.k, limits.dkv, "dk");
  expect(call.rounded.grads.v, call.exact.grads.v, limits.dkv, "dv");
  expect(call.rounded.grads.beta, call.exact.grads.beta, limits.dbeta, "dbeta");
  expect(call.rounded.grads.log_decay, call.exact.grads.log_decay, limits.dlog_decay, "dlog_decay");
}

TEST(EmulatedGradient, IsTheGradientOfTheDeltaRule) {
  run({1, 1, 64, 128, {0, 1, 70}}, 1);
  run({1, 2, 96, 192, {65}}, 2);    // value heads that share a key head
  run({1, 1, 16, 48, {15, 2}}, 3);  // widths that fill no tile
}

// A look of 32 lanes, and those after it for more segments.
TEST(EmulatedGradient, ChunksAreFoundAmongManySegments) {
  for (const int count : {1, 2, 31, 32, 33, 1023, 1025, 3000}) {
    std::mt19937_64 random(static_cast<std::uint64_t>(count));
    std::vector<std::int64_t> lengths;
    for (int s = 0; s < count; ++s)
      lengths.push_back(random() % 3 == 0 ? 0 : static_cast<int>(random() % 150));
    test::TestTensors t(1);
    const ops::Segments segments = t.segments(lengths);
    const DeviceSegments device{pointer<std::int32_t>(segments.offsets), count};
    const std::int64_t slots = test::sum_of(lengths) / kChunk + count;
    test::emulation::run({.blocks = {0}, .threads = 32, .seed = 1}, [&] {
      for (std::int64_t slot = 0; slot < slots; slot += 1 + slots / 64) {
        const Chunk got = chunk_in(device, slot), want = chunk_by_walking(lengths, slot);
        EXPECT_EQ(got.rows, want.rows) << count << " segments, slot " << slot;
        if (want.rows > 0) {
          EXPECT_EQ(got.begin, want.begin) << count << " segments, slot " << slot;
        }
      }
    });
  }
}

TEST(EmulatedGradient, MistakesOfProductsShow) {
  using Operand = Slabs<64, 32>;
  const auto start = [](float(&d)[4][4]) {
    const Operand tile{shared_address(dynamic_shared())};
    multiply_async<Lines::along_k, false>(PackedBf16{}, d, columns_along_k(tile, 0),
                                          columns_along_k(tile, 0));
    commit_products();
  };
  const auto launch = [](std::uint64_t seed) {
    return test::emulation::Launch{.blocks = {0}, .threads = 128, .seed = seed};
  };
  int forgotten = 0, overwritten = 0;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const auto forget = [&] {
      float d[4][4];
      start(d);
      start(d);
    };
    try {
      test::emulation::run(launch(seed), forget);
    } catch (const std::runtime_error&) {
      ++forgotten;
    }
    float sum = 0;
    test::emulation::run(launch(seed), [&] {
      auto* const values = reinterpret_cast<bf16*>(dynamic_shared());
      for (unsigned i = threadIdx.x; i < Operand::kBytes / 2; i += 128) values[i] = __float2bfloat16_rn(1);
      __syncthreads();
      float d[4][4];
      start(d);
      __syncthreads();
      for (unsigned i = threadIdx.x; i < Operand::kBytes / 2; i += 128) values[i] = __float2bfloat16_rn(0);
      __syncthreads();
      wait_for_products<0>(d);
      if (threadIdx.x == 0) sum = d[0][0];
    });
    if (sum != 16) ++overwritten;
  }
  EXPECT_GT(forgotten, 0);
  EXPECT_GT(overwritten, 0);
}

// Every width that there is a kernel for, more than one chunk, and columns that do not fill their slices.
TEST(EmulatedGradient, FullEveryWidth) {
  run({2, 2, 64, 64, {130, 0, 64, 1}}, 11);
  run({1, 1, 96, 192, {129, 3}}, 12);
  run({1, 1, 32, 80, {100}}, 13);
  run({1, 3, 128, 256, {66}}, 14);
  run({1, 1, 192, 64, {65, 10}}, 15);
  run({1, 1, 256, 128, {70}}, 16);
  run({2, 4, 80, 112, {64, 65}}, 17);
}

// Many orders of the warps among them.
TEST(EmulatedGradient, FullRandomCases) {
  for (std::uint64_t seed = 100; seed < 116; ++seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&](int low, int high) { return std::uniform_int_distribution(low, high)(random); };
    GatedDeltaCase c{};
    c.key_heads = draw(1, 2);
    c.value_heads = c.key_heads * draw(1, 2);
    c.key_width = 16 * draw(1, draw(0, 1) == 0 ? 6 : 16);
    c.value_width = 16 * draw(1, 12);
    for (int s = draw(0, 2); s > 0; --s) c.lengths.push_back(draw(0, 2) == 0 ? draw(0, 5) : draw(1, 130));
    c.lengths.push_back(draw(1, 70));
    run(c, seed);
  }
}

TEST(EmulatedGradient, NanStaysInItsSegment) {
  const GatedDeltaCase c{1, 1, 64, 64, {20, 7, 66}};
  Call clean(c, 1), dirty(c, 1);
  for (const ConstTensor& x : {dirty.rounded.in.q, dirty.rounded.in.k, dirty.rounded.in.v,
                               ConstTensor{dirty.rounded.dy}, ConstTensor{dirty.rounded.grads.v}}) {
    const Tensor middle{rows_of(x, 20, 7)};
    for (std::int64_t i = 0; i < middle.count(); ++i) {
      test::set_element(middle, i, std::numeric_limits<double>::quiet_NaN());
    }
  }
  clean.run(1);
  dirty.run(1);
  const auto& got = dirty.rounded.grads;
  const auto& want = clean.rounded.grads;
  for (const auto& [begin, rows] : {std::pair{0, 20}, std::pair{27, 66}}) {
    test::expect_same(rows_of(dirty.dq, begin, rows), rows_of(clean.dq, begin, rows), "dq beside NaN");
    test::expect_same(rows_of(dirty.dk, begin, rows), rows_of(clean.dk, begin, rows), "dk beside NaN");
    test::expect_same(rows_of(got.v, begin, rows), rows_of(want.v, begin, rows), "dv beside NaN");
    test::expect_same(rows_of(got.beta, begin, rows), rows_of(want.beta, begin, rows), "dbeta beside NaN");
    test::expect_same(rows_of(got.log_decay, begin, rows), rows_of(want.log_decay, begin, rows),
                      "dlog_decay beside NaN");
  }
}

}  // namespace
}  // namespace braid::cuda::chunked

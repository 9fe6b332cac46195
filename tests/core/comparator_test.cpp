// The comparator judges every other test, so it is judged first.
#include "tests/support/comparator.h"

#include <gtest/gtest-spi.h>

#include <cmath>
#include <limits>

#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace braid {
namespace {

using test::is_close;
using test::is_same;
using test::Tolerance;

constexpr Tolerance kLoose{1e-3, 1e-2};

TEST(Comparator, AcceptsEqualTensorsAndSmallErrors) {
  test::TestTensors t(1);
  const Tensor want = t.normal("want", DType::f64, {7, 5}), got = t.copy_of(want, DType::f32);
  EXPECT_TRUE(is_close(want, want, {0, 0}, "itself"));
  EXPECT_TRUE(is_close(got, want, test::tolerance_for(DType::f32), "rounded"));
  test::set_element(got, 3, test::element(want, 3) + 5e-3);
  EXPECT_TRUE(is_close(got, want, kLoose, "nearly"));
}

TEST(Comparator, RejectsASignFlip) {
  test::TestTensors t(1);
  const Tensor one = t.of(DType::f32, {1}, {100}), minus_one = t.of(DType::f32, {1}, {-100});
  EXPECT_FALSE(is_close(minus_one, one, kLoose, "x"));
  EXPECT_FALSE(is_close(one, minus_one, kLoose, "x"));
  const Tensor negative = t.of(DType::f32, {2}, {-1, -1}), far = t.of(DType::f32, {2}, {-100, -100});
  EXPECT_FALSE(is_close(negative, far, kLoose, "x"));
  EXPECT_FALSE(is_close(far, negative, kLoose, "x"));
}

TEST(Comparator, ZerosEqualOnlyZeros) {
  test::TestTensors t(1);
  const Tensor zeros = t.zeros(DType::f32, {3}), tiny = t.of(DType::f32, {3}, {0, 1e-30, 0});
  const Tensor minus = t.of(DType::f32, {3}, {-0.0, 0.0, -0.0});
  EXPECT_TRUE(is_close(zeros, zeros, kLoose, "x"));
  EXPECT_TRUE(is_close(minus, zeros, kLoose, "x"));
  EXPECT_FALSE(is_close(tiny, zeros, kLoose, "x"));
  EXPECT_FALSE(is_close(zeros, tiny, kLoose, "x"));
}

// One wrong element in a million hardly moves the RMS error; the worst element does.
TEST(Comparator, RejectsOneBadElementInMany) {
  test::TestTensors t(1);
  const Tensor want = t.normal("want", DType::f32, {1000, 1000}), got = t.copy_of(want);
  const double value = test::element(want, 777123);
  test::set_element(got, 777123, value + 0.1);
  const auto result = is_close(got, want, kLoose, "big");
  ASSERT_FALSE(result);
  EXPECT_NE(std::string(result.message()).find("first bad [777, 123]"), std::string::npos)
      << result.message();
}

// Many errors below the worst element's limit still add up to a wrong tensor.
TEST(Comparator, RejectsASmallBiasEverywhere) {
  test::TestTensors t(1);
  const Tensor want = t.normal("want", DType::f64, {100}), got = t.copy_of(want);
  for (std::int64_t i = 0; i < 100; ++i) test::set_element(got, i, test::element(want, i) + 5e-3);
  EXPECT_FALSE(is_close(got, want, kLoose, "biased"));
}

TEST(Comparator, RejectsWhatIsNotFinite) {
  test::TestTensors t(1);
  const Tensor want = t.normal("want", DType::f32, {2, 2});
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                           -std::numeric_limits<double>::infinity()}) {
    const Tensor got = t.copy_of(want);
    test::set_element(got, 2, bad);
    EXPECT_FALSE(is_close(got, want, {1e30, 1e30}, "got"));
    EXPECT_FALSE(is_close(want, got, {1e30, 1e30}, "want"));
    EXPECT_FALSE(is_close(got, got, {1e30, 1e30}, "both"));
  }
  EXPECT_FALSE(is_close(t.make(DType::f32, {2, 2}), want, {1e30, 1e30}, "never written"));
}

TEST(Comparator, RejectsAnotherShape) {
  test::TestTensors t(1);
  const Tensor want = t.zeros(DType::f32, {2, 3});
  EXPECT_FALSE(is_close(t.zeros(DType::f32, {3, 2}), want, kLoose, "x"));
  EXPECT_FALSE(is_close(t.zeros(DType::f32, {6}), want, kLoose, "x"));
  EXPECT_FALSE(is_close(t.zeros(DType::f32, {0, 3}), want, kLoose, "x"));
  EXPECT_TRUE(is_close(t.zeros(DType::f32, {0, 3}), t.zeros(DType::f64, {0, 3}), kLoose, "empty"));
}

TEST(Comparator, MessageNamesShapeIndexValuesAndSeed) {
  test::TestTensors t(1);
  const Tensor want = t.of(DType::f32, {2, 2}, {1, 2, 3, 4}), got = t.of(DType::f32, {2, 2}, {1, 2, 3.5, 5});
  const std::string message = is_close(got, want, kLoose, "y, seed 42").message();
  for (const auto* part : {"y, seed 42", "f32 (2, 2)", "first bad [1, 0]", "got 3.5", "want 3"}) {
    EXPECT_NE(message.find(part), std::string::npos) << "no '" << part << "' in: " << message;
  }
}

TEST(Comparator, SameMeansTheSameBits) {
  test::TestTensors t(1);
  const Tensor a = t.of(DType::f32, {2}, {1, 0}), b = t.of(DType::f32, {2}, {1, -0.0});
  EXPECT_TRUE(is_same(a, t.copy_of(a), "x"));
  EXPECT_FALSE(is_same(a, b, "x"));
  EXPECT_FALSE(is_same(a, t.copy_of(a, DType::f64), "x"));
  EXPECT_FALSE(is_same(a, reshaped(a, {1, 2}), "x"));
}

TEST(Comparator, ToleranceGrowsWithRoundoffAndLength) {
  EXPECT_LT(test::tolerance_for(DType::f64, 100).worst, 1e-13);
  EXPECT_LT(test::tolerance_for(DType::f32, 100).relative_rms, 2e-6);
  EXPECT_LT(test::tolerance_for(DType::f32, 1).worst, test::tolerance_for(DType::f32, 100).worst);
  EXPECT_GT(test::tolerance_for(DType::bf16, 1).relative_rms, 1e-3);
}

TEST(TestTensors, DependOnSeedAndNameAlone) {
  test::TestTensors a(1), b(1), c(2);
  const Tensor x = a.normal("x", DType::f32, {50});
  a.normal("other", DType::f32, {3});
  EXPECT_TRUE(is_same(b.normal("x", DType::f64, {50}), b.copy_of(x, DType::f64), "same in any dtype"));
  EXPECT_FALSE(is_same(b.normal("y", DType::f32, {50}), x, "another name"));
  EXPECT_FALSE(is_same(c.normal("x", DType::f32, {50}), x, "another seed"));
}

TEST(GradientCheck, TellsRightFromWrong) {
  test::TestTensors t(1);
  const Tensor x = t.normal("x", DType::f64, {4}), right = t.make(DType::f64, {4});
  const auto loss = [&] {
    double sum = 0;
    for (std::int64_t i = 0; i < 4; ++i) sum += std::exp(test::element(x, i));
    return sum;
  };
  for (std::int64_t i = 0; i < 4; ++i) test::set_element(right, i, std::exp(test::element(x, i)));
  const Tensor before = t.copy_of(x);
  test::expect_gradient(x, right, loss, "right");
  test::expect_same(x, before, "x is left as it was");
  ::testing::TestPartResultArray failures;
  {
    const ::testing::ScopedFakeTestPartResultReporter reporter(&failures);
    test::set_element(right, 2, test::element(right, 2) * 1.001);
    test::expect_gradient(x, right, loss, "wrong");
  }
  EXPECT_EQ(failures.size(), 1);
}

}  // namespace
}  // namespace braid

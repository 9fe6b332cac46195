#include "tests/support/comparator.h"

#include <cmath>
#include <cstring>

namespace braid::test {
namespace {

double unit_roundoff(DType t) {
  switch (t) {
    case DType::f64:
      return 0x1p-53;
    case DType::bf16:
      return 0x1p-8;
    case DType::f16:
      return 0x1p-11;
    default:
      return 0x1p-24;
  }
}

// "[1, 0, 5]"
std::string index_text(const Shape& shape, std::int64_t flat) {
  std::array<std::int64_t, Shape::kMaxRank> index{};
  for (int i = shape.rank - 1; i >= 0; --i) {
    index[static_cast<std::size_t>(i)] = flat % shape[i];
    flat /= shape[i];
  }
  return fmt::format("[{}]", fmt::join(index.begin(), index.begin() + shape.rank, ", "));
}

std::string element_text(const ConstTensor& got, const ConstTensor& want, std::int64_t i) {
  return fmt::format("{}: got {:.9g}, want {:.9g}", index_text(want.shape, i), element(got, i),
                     element(want, i));
}

struct Errors {
  double relative_rms = 0, worst = 0;
  std::int64_t worst_at = 0;
};

double element_error(const ConstTensor& got, const ConstTensor& want, std::int64_t i, double unit) {
  return std::abs(element(got, i) - element(want, i)) / std::fmax(unit, std::abs(element(want, i)));
}

// `unit` is the RMS of `want`, or 1 where that is zero, so that only an exact zero equals zero.
Errors measure(const ConstTensor& got, const ConstTensor& want, double unit) {
  Errors e;
  double squares = 0;
  for (std::int64_t i = 0; i < want.count(); ++i) {
    const double difference = (element(got, i) - element(want, i)) / unit;
    squares += difference * difference;
    const double error = element_error(got, want, i, unit);
    if (error > e.worst) {
      e.worst = error;
      e.worst_at = i;
    }
  }
  e.relative_rms = std::sqrt(squares / static_cast<double>(want.count()));
  return e;
}

double rms_of(const ConstTensor& t) {
  double squares = 0;
  for (std::int64_t i = 0; i < t.count(); ++i) squares += element(t, i) * element(t, i);
  return std::sqrt(squares / static_cast<double>(t.count()));
}

// The first element whose own error is over the limit, or else the worst one.
std::int64_t first_bad(const ConstTensor& got, const ConstTensor& want, double unit, double limit,
                       std::int64_t worst_at) {
  for (std::int64_t i = 0; i < want.count(); ++i) {
    if (element_error(got, want, i, unit) > limit) return i;
  }
  return worst_at;
}

void report(const ::testing::AssertionResult& result, const std::source_location& at) {
  if (!result) ADD_FAILURE_AT(at.file_name(), static_cast<int>(at.line())) << result.message();
}

}  // namespace

Tolerance tolerance_for(DType dtype, std::int64_t reduction_length) {
  const double summed = unit_roundoff(accumulator_of(dtype));
  const double stored = dtype == DType::bf16 || dtype == DType::f16 ? unit_roundoff(dtype) : 0.0;
  const double rms = stored + summed * (4 + 2 * std::sqrt(static_cast<double>(reduction_length)));
  return {rms, 12 * rms};
}

double element(const ConstTensor& t, std::int64_t i) {
  switch (t.dtype) {
    case DType::f32:
      return static_cast<double>(t.as<float>()[i]);
    case DType::f64:
      return t.as<double>()[i];
    case DType::bf16:
      return static_cast<double>(static_cast<float>(t.as<BFloat16>()[i]));
    case DType::f16:
      return static_cast<double>(static_cast<float>(t.as<Float16>()[i]));
    case DType::i32:
      return t.as<std::int32_t>()[i];
    case DType::i64:
      return static_cast<double>(t.as<std::int64_t>()[i]);
    case DType::u8:
      return t.as<std::uint8_t>()[i];
  }
  return 0;
}

::testing::AssertionResult is_close(const ConstTensor& got, const ConstTensor& want, Tolerance tolerance,
                                    std::string_view what) {
  if (got.shape != want.shape) {
    return ::testing::AssertionFailure()
           << what << ": got " << describe(got) << ", want shape " << to_string(want.shape);
  }
  for (std::int64_t i = 0; i < want.count(); ++i) {
    if (std::isfinite(element(got, i)) && std::isfinite(element(want, i))) continue;
    return ::testing::AssertionFailure()
           << what << ", " << describe(got) << ", is not finite at " << element_text(got, want, i);
  }
  if (want.count() == 0) return ::testing::AssertionSuccess();
  const double rms = rms_of(want), unit = rms > 0 ? rms : 1.0;
  const Errors e = measure(got, want, unit);
  const Tolerance limit = rms > 0 ? tolerance : Tolerance{0, 0};
  if (e.relative_rms <= limit.relative_rms && e.worst <= limit.worst) return ::testing::AssertionSuccess();
  const auto bad = first_bad(got, want, unit, limit.worst, e.worst_at);
  return ::testing::AssertionFailure()
         << what << ", " << describe(got)
         << fmt::format(": relative RMS error {:.3g} (limit {:.3g}), worst {:.3g} (limit {:.3g}) at {}; ",
                        e.relative_rms, limit.relative_rms, e.worst, limit.worst,
                        index_text(want.shape, e.worst_at))
         << "first bad " << element_text(got, want, bad) << fmt::format("; RMS of want {:.3g}", rms);
}

::testing::AssertionResult is_same(const ConstTensor& got, const ConstTensor& want, std::string_view what) {
  if (got.shape != want.shape || got.dtype != want.dtype) {
    return ::testing::AssertionFailure() << what << ": got " << describe(got) << ", want " << describe(want);
  }
  const auto size = size_of(want.dtype);
  for (std::int64_t i = 0; i < want.count(); ++i) {
    const auto offset = static_cast<std::size_t>(i) * size;
    const auto* a = static_cast<const std::byte*>(got.data) + offset;
    const auto* b = static_cast<const std::byte*>(want.data) + offset;
    if (std::memcmp(a, b, size) != 0) {
      return ::testing::AssertionFailure()
             << what << ", " << describe(got) << ", differs in bits at " << element_text(got, want, i);
    }
  }
  return ::testing::AssertionSuccess();
}

void expect_close(const ConstTensor& got, const ConstTensor& want, Tolerance tolerance, std::string_view what,
                  std::source_location at) {
  report(is_close(got, want, tolerance, what), at);
}

void expect_same(const ConstTensor& got, const ConstTensor& want, std::string_view what,
                 std::source_location at) {
  report(is_same(got, want, what), at);
}

}  // namespace braid::test

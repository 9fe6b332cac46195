// The one comparison of floating results: relative RMS error over the tensor, and the worst element's error
// relative to the RMS of what was wanted, or to the element itself where that is larger. NaN and infinity
// never pass.
#pragma once
#include <gtest/gtest.h>

#include <source_location>
#include <string_view>

#include "braid/core/tensor.h"

namespace braid::test {

struct Tolerance {
  double relative_rms;  // RMS(got − want) / RMS(want)
  double worst;         // max |got − want| / max(RMS(want), |want|)
};

// For results of `dtype` that are sums of `reduction_length` products. Rounding errors of a running sum of K
// random terms grow as sqrt(K) unit roundoffs (Higham 2002, section 4.2); bf16 and f16 results are summed in
// f32, so that only their last rounding counts.
Tolerance tolerance_for(DType dtype, std::int64_t reduction_length = 1);

// Element i of any dtype.
double element(const ConstTensor& t, std::int64_t i);

// Dtypes may differ, shapes may not. `what` names tensor, case and seed in the message.
::testing::AssertionResult is_close(const ConstTensor& got, const ConstTensor& want, Tolerance tolerance,
                                    std::string_view what);
// The same dtype, shape and bits.
::testing::AssertionResult is_same(const ConstTensor& got, const ConstTensor& want, std::string_view what);

// As above, reported at the caller's line.
void expect_close(const ConstTensor& got, const ConstTensor& want, Tolerance tolerance, std::string_view what,
                  std::source_location at = std::source_location::current());
void expect_same(const ConstTensor& got, const ConstTensor& want, std::string_view what,
                 std::source_location at = std::source_location::current());

}  // namespace braid::test

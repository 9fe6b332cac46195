// Generators and solvers agree on texts; texts are what they should be.
#include <gtest/gtest.h>

#include "braid/core/error.h"
#include "braid/lab/problem.h"

namespace braid::lab {
namespace {

TEST(Problems, AreFoundByName) {
  for (const auto name : problem_names()) EXPECT_EQ(problem_named(name).name(), name);
  EXPECT_THROW(problem_named("swap"), Error);
}

TEST(Problems, SolverFindsTheGeneratorsAnswers) {
  for (const auto name : problem_names()) {
    const auto& problem = problem_named(name);
    for (const auto form : {Form::tokens, Form::code}) {
      for (std::uint64_t index = 0; index < 50; ++index) {
        const auto example = problem.make(form, {.n = 8}, 1, index);
        std::vector<std::int32_t> want;
        for (const auto place : example.answers) want.push_back(example.ids[static_cast<std::size_t>(place)]);
        EXPECT_EQ(problem.solve(form, example.ids), want) << name << " " << index;
      }
    }
  }
}

}  // namespace
}  // namespace braid::lab

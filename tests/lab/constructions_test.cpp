// Hand-built models against the solver: every instance of small sizes, random ones beyond.
#include <gtest/gtest.h>

#include "braid/backends/backends.h"
#include "braid/core/error.h"
#include "braid/lab/constructions/barrington.h"
#include "braid/lab/constructions/directory.h"
#include "braid/lab/constructions/verify.h"
#include "tests/support/files.h"

namespace braid::lab {
namespace {

Backend cpu() { return make_backend("cpu", {.threads = 1}, Arithmetic::fast); }

Verification run(const Construction& construction, std::int64_t n, const VerifyOptions& options,
                 model::ParameterTypes types = {}) {
  const Backend backend = cpu();
  return verify(backend, construction, converted(construction.build(n), types, backend.memory), n, n,
                options);
}

struct Size {
  std::string_view construction;
  std::int64_t n;
};

// Bits and margin: what is exact leads by the whole row.
void expect_exact(const Size& size, const VerifyOptions& options, model::ParameterTypes types = {}) {
  const auto v = run(construction_named(size.construction), size.n, options, types);
  EXPECT_TRUE(v.all_right()) << size.construction << " " << size.n << ": " << v.first_wrong;
  EXPECT_EQ(v.forward.answers, v.instances);
  EXPECT_EQ(v.prefill.answers, v.instances);
  EXPECT_EQ(v.steps.answers, v.instances);
  EXPECT_GT(std::min({v.forward.margin, v.prefill.margin, v.steps.margin}), 0.9);
}

TEST(Constructions, AreRightOnEverySmallInstance) {
  for (const Size size : {Size{"swaps", 1},
                          {"swaps", 2},
                          {"a5", 1},
                          {"recall", 1},
                          {"recall", 4},
                          {"state-based-recall-gdn-attention", 1},
                          {"state-based-recall-attention-gdn", 1},
                          {"formula", 2},
                          {"formula-any-shape", 1},
                          {"formula-any-shape", 2}}) {
    expect_exact(size, {.instances = Instances::exhaustive});
  }
}

// The padding of formulas grows fast.
std::int64_t usual_size(const Construction& construction) {
  return construction.name() == "formula-any-shape" ? 3 : 8;
}

TEST(Constructions, AreRightOnRandomInstances) {
  for (const auto* construction : constructions()) {
    if (construction->promise() != Promise::exact) continue;
    expect_exact({construction->name(), usual_size(*construction)}, {.count = 20});
  }
}

TEST(Constructions, NeedNoMoreThanBf16Matrices) {
  for (const auto* construction : constructions()) {
    const bool exact = construction->promise() == Promise::exact;
    if (!exact || construction->name() == "swaps-literal") continue;  // its keys are not powers of two
    expect_exact({construction->name(), usual_size(*construction)}, {.count = 20}, {.matrix = DType::bf16});
  }
}

TEST(Constructions, FullEveryInstance) {
  for (const Size size : {Size{"swaps", 3},
                          {"a5", 2},
                          {"state-based-recall-gdn-attention", 2},
                          {"state-based-recall-attention-gdn", 2},
                          {"formula", 4},
                          {"formula-any-shape", 3}}) {
    expect_exact(size, {.instances = Instances::exhaustive});
  }
}

// The state is bit for bit a signed permutation, however long the text.
TEST(Constructions, SwapsKeepTheirMargin) {
  const auto& swaps = construction_named("swaps");
  const auto at_4 = run(swaps, 4, {.count = 50}), at_500 = run(swaps, 500, {.count = 5});
  EXPECT_TRUE(at_500.all_right());
  EXPECT_EQ(at_4.forward.margin, at_500.forward.margin);
}

TEST(Constructions, WithoutNegativeEigenvaluesSwapsAreForgotten) {
  const auto& positive = construction_named("swaps-positive");
  EXPECT_EQ(positive.promise(), Promise::counterexample);
  const auto at_1 = run(positive, 1, {.count = 500}), at_32 = run(positive, 32, {.count = 500});
  EXPECT_LT(at_1.forward.accuracy(), 0.75);
  EXPECT_GT(at_1.forward.accuracy(), 0.45);
  EXPECT_LT(at_32.forward.accuracy(), 0.3);
  EXPECT_FALSE(at_32.first_wrong.empty());
}

TEST(Constructions, AModelForLongTextsReadsShorterOnes) {
  const Backend backend = cpu();
  for (const auto* construction : constructions()) {
    const auto name = construction->name();
    if (construction->promise() != Promise::exact || name.starts_with("formula")) continue;
    EXPECT_TRUE(verify(backend, *construction, construction->build(9), 9, 3, {.count = 20}).all_right())
        << name;
  }
}

TEST(Constructions, SurviveTheDisk) {
  const test::TemporaryFolder folder;
  const auto path = folder / "model";
  const auto& construction = construction_named("state-based-recall-attention-gdn");
  save_construction(path, construction, 6);
  const auto [saved, n] = read_construction(path);
  EXPECT_EQ(saved, &construction);
  EXPECT_EQ(n, 6);
  EXPECT_TRUE(verify(cpu(), *saved, model::load_model(path, {}), n, n, {.count = 20}).all_right());
  EXPECT_THROW(save_construction(path, construction, 6), Error);  // not an empty folder
  io::write_file(path / "construction.json", "{\"construction\": \"swap\", \"n\": 6}");
  EXPECT_THROW(read_construction(path), Error);
}

TEST(Constructions, RejectWhatTheyCannotBuild) {
  EXPECT_THROW(construction_named("swap"), Error);
  EXPECT_THROW(construction_named("formula").build(6), Error);
  EXPECT_THROW(construction_named("recall").build(2000), Error);
  const auto& recall = construction_named("recall");  // a model too small for the text
  EXPECT_THROW(verify(cpu(), recall, recall.build(4), 4, 9, {.count = 5}), Error);
  EXPECT_THROW(construction_named("swaps").count(30, 1000), Error);
}

TEST(Barrington, ProgramsHaveTheirLengths) {
  EXPECT_EQ(branching_program(0).instructions.size(), 4u);
  std::size_t length = 4;
  for (std::int64_t depth = 1; depth <= 4; ++depth) {
    length = 4 * length + 20;
    EXPECT_EQ(branching_program(depth).instructions.size(), length);
  }
}

}  // namespace
}  // namespace braid::lab

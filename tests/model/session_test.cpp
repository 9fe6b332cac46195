// What a session refuses, and that nothing of a sequence outlives it. Equalities of results are in
// one_arithmetic_test.cpp.
#include "braid/model/session.h"

#include <gtest/gtest.h>

#include <limits>

#include "braid/backends/backends.h"
#include "tests/model/golden_models.h"
#include "tests/support/comparator.h"
#include "tests/support/small_models.h"
#include "tests/support/tensors.h"

namespace braid::model {
namespace {

constexpr std::int32_t kPoison = 5;  // a token whose embedding is NaN

struct Poisoned {
  explicit Poisoned(const test::SmallModel& small)
      : config(small.config), parameters(test::small_parameters(config, 3)) {
    const Tensor row = rows_of(parameters.tree().embedding, kPoison, 1);
    for (std::int64_t i = 0; i < row.count(); ++i)
      row.as<float>()[i] = std::numeric_limits<float>::quiet_NaN();
    config.tied_embeddings = false;
  }
  ModelConfig config;
  ParameterSet parameters;
};

bool is_nan(const ConstTensor& t) {
  for (std::int64_t i = 0; i < t.count(); ++i) {
    if (!std::isnan(t.as<float>()[i])) return false;
  }
  return true;
}

// Every state and cache is filled with NaN; after reset a text must not see any of it.
TEST(Session, ResetForgetsEvenNaN) {
  for (const auto& small : test::small_models()) {
    if (small.config.tied_embeddings) continue;  // the poisoned row would be in the head as well
    const Poisoned m(small);
    for (const char* backend_name : {"reference", "cpu"}) {
      const auto what = small.name + " " + backend_name;
      const Backend backend = make_backend(backend_name, {.threads = 1, .target = {}});
      const auto make = [&] {
        return Session(backend, m.config, m.parameters.tree(),
                       {.sequences = 2, .capacity = 48, .max_tokens = 48});
      };
      auto fresh = make(), used = make();
      const std::vector<std::int32_t> poison(40, kPoison);
      ASSERT_TRUE(is_nan(used.extend({poison, {}}))) << what;
      used.reset(0);
      EXPECT_EQ(used.length(0), 0);
      std::vector<std::int32_t> text(30);
      for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::int32_t>(6 + i * 7 % 80);
      test::TestTensors copies(1);
      const auto prefill = copies.copy_of(fresh.extend({text, {}}, LogitRows::all));
      test::expect_same(used.extend({text, {}}, LogitRows::all), prefill, what + " prefill");
      const auto step = copies.copy_of(fresh.extend({{9}, {}}));
      test::expect_same(used.extend({{9}, {}}), step, what + " step");
    }
  }
}

// A neighbour full of NaN does not touch the sequence beside it.
TEST(Session, SequencesDoNotTouchEachOther) {
  for (const auto& small : test::small_models()) {
    if (small.config.tied_embeddings) continue;
    const Poisoned m(small);
    for (const char* backend_name : {"reference", "cpu"}) {
      Backend backend = make_backend(backend_name, {.threads = 1, .target = {}});
      backend.arithmetic = Arithmetic::strict;
      const SessionOptions options{.sequences = 2, .capacity = 48, .max_tokens = 48};
      Session clean(backend, m.config, m.parameters.tree(), options),
          beside(backend, m.config, m.parameters.tree(), options);
      const std::vector<std::int32_t> text{6, 7, 8, 9, 10}, poison{kPoison, kPoison, kPoison};
      test::TestTensors copies(1);
      const auto want = copies.copy_of(clean.extend({text, {}}));
      test::expect_same(rows_of(beside.extend({text, poison}), 0, 1), want, small.name + " " + backend_name);
      const auto step = copies.copy_of(clean.extend({{11}, {}}));
      test::expect_same(rows_of(beside.extend({{11}, {kPoison}}), 0, 1), step,
                        small.name + " " + backend_name);
    }
  }
}

TEST(Session, RefusesWhatDoesNotFit) {
  const auto model = test::golden_model("hybrid");
  const Backend backend = make_backend("reference");
  Session s(backend, model.config, model.parameters.tree(),
            {.sequences = 2, .capacity = 10, .max_tokens = 8});
  test::expect_error([&] { s.extend({{1, 2, 3}}); }, {"session", "2"});
  test::expect_error([&] { s.extend({{}, {}}); }, {"session", "no tokens"});
  test::expect_error([&] { s.extend({{1, 320}, {}}); }, {"session", "320"});
  test::expect_error([&] { s.extend({{-1}, {}}); }, {"session", "-1"});
  test::expect_error([&] { s.extend({{1, 2, 3, 4, 5}, {1, 2, 3, 4}}); }, {"session", "9", "8"});
  s.extend({{1, 2, 3, 4, 5, 6, 7, 8}, {}});
  test::expect_error([&] { s.extend({{1, 2, 3}, {}}); }, {"session", "sequence 0", "11", "10"});
  EXPECT_EQ(s.length(0), 8);  // refused calls change nothing
  EXPECT_EQ(s.extend({{1, 2}, {3}}, LogitRows::all).shape, (Shape{3, 320}));
  EXPECT_EQ(s.length(0), 10);
  EXPECT_EQ(s.length(1), 1);
  test::expect_error([&] { s.reset(2); }, {"session", "2"});
  test::expect_error([&] { Session(backend, model.config, model.parameters.tree(), {.sequences = 0}); },
                     {"session", "sequences"});
}

}  // namespace
}  // namespace braid::model

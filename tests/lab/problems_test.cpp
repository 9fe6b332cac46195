// Generators: agreement with the solvers, determinism, distributions, limits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "braid/core/error.h"
#include "tests/lab/support.h"

namespace braid::lab {
namespace {

constexpr Form kForms[] = {Form::tokens, Form::code};

std::vector<Difficulty> difficulties(std::string_view name) {
  std::vector<Difficulty> all = {{.n = 1}, {.n = 8}, {.n = 40}};
  if (!has_reveals(name)) return all;
  all.insert(all.end(), {{.n = 12, .reveal_spacing = 1}, {.n = 30, .reveal_spacing = 4}});
  if (name == "state_based_recall" || name == "mixed") {
    all.push_back({.n = 20, .reveal_spacing = 2, .bits = 3, .reveals = Reveal::bit});
    all.push_back({.n = 5, .reveal_spacing = 2, .bits = 1024});
  }
  if (name == "counter") all.push_back({.n = 9, .reveal_spacing = 2, .modulus = 64});
  return all;
}

TEST(Problems, AreFoundByName) {
  EXPECT_EQ(problem_names().size(), 9u);
  for (const auto name : problem_names()) EXPECT_EQ(problem_named(name).name(), name);
  EXPECT_THROW(problem_named("swap"), Error);
}

TEST(Problems, SolverFindsTheGeneratorsAnswers) {
  for (const auto name : problem_names()) {
    const auto& problem = problem_named(name);
    for (const auto& difficulty : difficulties(name)) {
      for (std::uint64_t index = 0; index < 60; ++index) {
        for (const auto form : kForms) {
          const auto example = problem.make(form, difficulty, 1, index);
          ASSERT_EQ(problem.solve(form, example.ids), answers_of(example)) << name << " " << index;
        }
      }
    }
  }
}

TEST(Problems, AnswersAreNotLookedAt) {
  for (const auto name : problem_names()) {
    const auto& problem = problem_named(name);
    for (const auto form : kForms) {
      auto example = problem.make(form, {.n = 12, .reveal_spacing = has_reveals(name) ? 3 : 0}, 2, 0);
      const auto want = problem.solve(form, example.ids);
      for (const auto id :
           {Vocabulary::pad, 2, static_cast<std::int32_t>(problem.vocabulary(form).size()) - 1}) {
        for (const auto place : example.answers) example.ids[static_cast<std::size_t>(place)] = id;
        EXPECT_EQ(problem.solve(form, example.ids), want) << name << ", answers " << id;
      }
      example.ids.pop_back();
      EXPECT_EQ(problem.solve(form, example.ids), want) << name << ", the last answer left out";
    }
  }
}

TEST(Problems, AnswersAscendAndTheLastIsTheTextsEnd) {
  for (const auto name : problem_names()) {
    const auto& problem = problem_named(name);
    for (const auto& difficulty : difficulties(name)) {
      for (const auto form : kForms) {
        const auto example = problem.make(form, difficulty, 3, 0);
        EXPECT_EQ(example.ids[0], Vocabulary::bos);
        EXPECT_TRUE(std::ranges::is_sorted(example.answers, std::less_equal<>())) << name;
        EXPECT_EQ(example.answers.back() + 1, static_cast<std::int64_t>(example.ids.size())) << name;
        const auto reveals =
            difficulty.reveal_spacing > 0 ? (difficulty.n - 1) / difficulty.reveal_spacing : 0;
        EXPECT_EQ(static_cast<std::int64_t>(example.answers.size()), reveals + 1) << name;
      }
    }
  }
}

TEST(Problems, IdsStayBelowTheSizeThatTheDifficultyNeeds) {
  for (const auto name : problem_names()) {
    const auto& problem = problem_named(name);
    for (const auto& difficulty : difficulties(name)) {
      for (const auto form : kForms) {
        const auto size = problem.vocabulary_size(form, difficulty);
        ASSERT_LE(size, problem.vocabulary(form).size()) << name;
        for (std::uint64_t index = 0; index < 200; ++index) {
          for (const auto id : problem.make(form, difficulty, 4, index).ids) ASSERT_LT(id, size) << name;
        }
      }
    }
  }
}

TEST(Problems, ArePureFunctionsOfTheirArguments) {
  for (const auto name : problem_names()) {
    const auto& problem = problem_named(name);
    const auto again = [&](std::uint64_t seed, std::uint64_t index) {
      return problem.make(Form::tokens, {.n = 32}, seed, index).ids;
    };
    EXPECT_EQ(again(5, 7), again(5, 7)) << name;
    EXPECT_NE(again(5, 7), again(5, 8)) << name;
    EXPECT_NE(again(5, 7), again(6, 7)) << name;
  }
}

TEST(Problems, FormAndRevealsLeaveTheInstanceAsItIs) {
  for (const auto name : problem_names()) {
    const auto& problem = problem_named(name);
    const auto tokens = problem.make(Form::tokens, {.n = 20}, 5, 7);
    EXPECT_EQ(tokens.code, problem.make(Form::code, {.n = 20}, 5, 7).code) << name;
    if (!has_reveals(name)) continue;
    const auto asked = problem.make(Form::tokens, {.n = 20, .reveal_spacing = 3}, 5, 7);
    auto rest = asked.ids;  // without the questions in between
    for (auto i = asked.answers.size() - 1; i-- > 0;) {
      rest.erase(rest.begin() + asked.answers[i] - 1, rest.begin() + asked.answers[i] + 1);
    }
    EXPECT_EQ(rest, tokens.ids) << name;
  }
}

// Bytes that later versions must not change: published results name seeds.
TEST(Problems, GiveTheSameExamplesForEver) {
  const std::map<std::string_view, std::string_view> want = {
      {"recall", "<bos> 1 0 1 1 bits[2]? =1"},
      {"a5", "<bos> aebdc eabcd dcbae cdbea a? =0"},
      {"parity", "<bos> 1 0 1 1 a? =1"},
      {"counter", "<bos> %5 +4 +3 +3 +1 a? =1"},
      {"state_based_recall", "<bos> 1 0 1 1 a=2 b=0 c=2 d=0 e=2 a,b c,e c,d a,e bits[a]? =1"},
      {"formula", "<bos> | 0 ! & 0 | ! 1 0 a? =1"},
      {"mixed", "<bos> 1 0 1 1 a=2 b=0 c=2 d=0 e=2 bits[d]^1 if_bits[d]:c,e b,d bits[b]^1 bits[a]? =1"},
  };
  for (const auto& [name, words] : want) {
    const auto& problem = problem_named(name);
    EXPECT_EQ(words_of(problem, Form::tokens, problem.make(Form::tokens, {.n = 4}, 0, 0).ids), words);
  }
}

// Every value of the final answer is equally likely: counts within five standard deviations.
TEST(Problems, FinalAnswersAreBalanced) {
  constexpr int kExamples = 4000;
  for (const auto name : problem_names()) {
    const auto& problem = problem_named(name);
    const Difficulty difficulty{.n = 24};
    std::map<std::int32_t, int> counts;
    for (std::uint64_t index = 0; index < kExamples; ++index) {
      ++counts[problem.make(Form::tokens, difficulty, 6, index).ids.back()];
    }
    const double share = problem.chance(difficulty);
    EXPECT_EQ(counts.size(), static_cast<std::size_t>(std::lround(1 / share))) << name;
    for (const auto& [answer, count] : counts) {
      EXPECT_NEAR(count, kExamples * share, 5 * std::sqrt(kExamples * share * (1 - share)))
          << name << " " << problem.vocabulary(Form::tokens).word(answer);
    }
  }
}

TEST(Problems, ActionsAreUniform) {
  constexpr int kExamples = 200, kActions = 100;
  for (const auto& [name, first, kinds] : {std::tuple("swaps", "a,b", 10), std::tuple("a5", "abcde", 60)}) {
    const auto& problem = problem_named(name);
    std::map<std::int32_t, int> counts;
    for (std::uint64_t index = 0; index < kExamples; ++index) {
      const auto ids = problem.make(Form::tokens, {.n = kActions}, 7, index).ids;
      for (std::size_t i = 1; i <= kActions; ++i) ++counts[ids[i]];
    }
    EXPECT_EQ(counts.begin()->first, problem.vocabulary(Form::tokens).id(first));
    EXPECT_EQ(static_cast<int>(counts.size()), kinds);
    const double mean = kExamples * kActions / static_cast<double>(kinds);
    for (const auto& [action, count] : counts)
      EXPECT_NEAR(count, mean, 5 * std::sqrt(mean)) << name << " " << action;
  }
}

TEST(Problems, FormulasKeepTheirDepth) {
  const auto& problem = problem_named("formula");
  const auto& words = problem.vocabulary(Form::tokens);
  for (std::uint64_t index = 0; index < 100; ++index) {
    const auto ids = problem.make(Form::tokens, {.n = 20, .depth = 5}, 8, index).ids;
    std::vector<int> open;  // operands that each gate above still misses, gates of two alone counted
    std::size_t deepest = 0, leaves = 0;
    for (std::size_t i = 1; words.word(ids[i]) != "a?"; ++i) {
      const auto& word = words.word(ids[i]);
      if (word == "!") continue;
      if (word == "&" || word == "|") {
        open.push_back(2);
        continue;
      }
      ++leaves, deepest = std::max(deepest, open.size());
      while (!open.empty() && --open.back() == 0) open.pop_back();
    }
    EXPECT_EQ(leaves, 20u);
    EXPECT_LE(deepest, 5u);
  }
}

TEST(Problems, SettingsOutsideTheLimitsAreNamed) {
  const auto expect_error = [](std::string_view name, const Difficulty& difficulty, std::string_view part) {
    const auto& problem = problem_named(name);
    for (const auto form : kForms) {
      try {
        problem.make(form, difficulty, 0, 0);
        ADD_FAILURE() << name << " took a bad " << part;
      } catch (const Error& error) {
        EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos) << error.what();
      }
    }
    EXPECT_THROW(problem.vocabulary_size(Form::code, difficulty), Error);
  };
  for (const auto name : problem_names()) {
    for (const auto n : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{5000}, INT64_MAX, INT64_MIN}) {
      expect_error(name, {.n = n}, "n is ");
    }
    if (has_reveals(name)) expect_error(name, {.n = 4, .reveal_spacing = -1}, "reveal_spacing is -1");
  }
  expect_error("recall", {.n = 1025}, "n is 1025");
  expect_error("recall", {.n = 4, .reveal_spacing = 1}, "reveal_spacing");
  expect_error("swaps", {.n = 4, .bits = 4}, "no bits");
  expect_error("swaps", {.n = 4, .reveals = Reveal::bit}, "reveal variables");
  expect_error("counter", {.n = 4, .modulus = 1}, "modulus is 1");
  expect_error("counter", {.n = 4, .modulus = 65}, "modulus is 65");
  expect_error("state_based_recall", {.n = 2000}, "set bits");
  expect_error("mixed", {.n = 4, .bits = 1025}, "bits is 1025");
  expect_error("formula", {.n = 9, .depth = 3}, "room for 8");
  expect_error("formula", {.n = 9, .padding = 3}, "no padding");
  expect_error("padded_formula", {.n = 257}, "set padding");
}

}  // namespace
}  // namespace braid::lab

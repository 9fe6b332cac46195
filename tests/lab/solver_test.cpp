// Solvers: cases worked out by hand, and texts that have no meaning.
#include <gtest/gtest.h>

#include "braid/core/error.h"
#include "braid/core/random.h"
#include "tests/lab/support.h"

namespace braid::lab {
namespace {

TEST(Solver, SwapsByHand) {
  EXPECT_EQ(solved("swaps", "<bos> a?"), "=0");
  // 0 1 2 3 4, a,b: 1 0 2 3 4, b,c: 1 2 0 3 4. In the other order a would end with 2.
  EXPECT_EQ(solved("swaps", "<bos> a,b b,c a? =0 b? =0 c?"), "=1 =2 =0");
  EXPECT_EQ(solved("swaps", "<bos> a,b b,c c,d d,e e? =4 a,e a?"), "=0 =0");
}

TEST(Solver, PermutationsByHand) {
  // a, b, c, d, e = b, c, a, d, e: 1 2 0 3 4; then = a, c, b, e, d: 1 0 2 4 3.
  EXPECT_EQ(solved("a5", "<bos> bcade a? =0 acbed a? =0 b? =0 c? =0 d? =0 e?"), "=1 =1 =0 =2 =4 =3");
}

// Definition 2: q = (pi_n ∘ … ∘ pi_1)(p), the answer is the bit at q_1. pi_1 acts first.
TEST(Solver, StateBasedRecallByHand) {
  // p = (0, 1, 2, 3, 4), pi_1 = (1 2): (1, 0, 2, 3, 4), pi_2 = (2 3): (1, 2, 0, 3, 4). So q_1 = 1; had pi_2
  // acted first, q_1 would be 2.
  const std::string start = "<bos> 0 1 0 0 0 a=0 b=1 c=2 d=3 e=4 ";
  EXPECT_EQ(solved("state_based_recall", start + "a,b b,c bits[a]?"), "=1");
  EXPECT_EQ(solved("state_based_recall", start + "b,c a,b bits[a]?"), "=0");
  EXPECT_EQ(solved("state_based_recall", start + "a,b b,c a? =0 b? =0 c? =0 bits[c]? =0 bits[a]?"),
            "=1 =2 =0 =0 =1");
  // Pointers may meet, and bits that none points to do not matter.
  EXPECT_EQ(solved("state_based_recall", "<bos> 0 0 1 a=0 b=2 c=2 d=2 e=2 a,e bits[a]? =0 bits[e]?"),
            "=1 =0");
}

// The definition as it stands, from the last permutation to the first: q_1 = p at pi_1(pi_2(… pi_n(1))).
TEST(Solver, StateBasedRecallAgreesWithTheDefinition) {
  const auto& problem = problem_named("state_based_recall");
  const auto& words = problem.vocabulary(Form::tokens);
  for (std::uint64_t index = 0; index < 500; ++index) {
    const auto example = problem.make(Form::tokens, {.n = 30}, 9, index);
    const auto word = [&](std::size_t i) { return words.word(example.ids[i]); };
    std::size_t variable = 0;
    for (std::size_t i = 65; i >= 36; --i) {  // <bos>, 30 bits, 5 indices, 30 swaps
      const auto first = static_cast<std::size_t>(word(i)[0] - 'a'),
                 second = static_cast<std::size_t>(word(i)[2] - 'a');
      variable = variable == first ? second : variable == second ? first : variable;
    }
    const auto pointer = std::stoul(word(31 + variable).substr(2));
    EXPECT_EQ(word(67).substr(1), word(1 + pointer)) << index;
  }
}

TEST(Solver, OthersByHand) {
  EXPECT_EQ(solved("recall", "<bos> 0 1 0 bits[1]? =0 bits[2]?"), "=1 =0");
  EXPECT_EQ(solved("parity", "<bos> 1 1 a? =1 1 0 a?"), "=0 =1");
  EXPECT_EQ(solved("counter", "<bos> %7 +6 +6 a? =0 +2 a?"), "=5 =0");
  EXPECT_EQ(solved("formula", "<bos> & 1 | 0 ! 1 a?"), "=0");
  EXPECT_EQ(solved("formula", "<bos> ! & 1 | 0 ! 1 a?"), "=1");
  EXPECT_EQ(solved("formula", "<bos> ! ! 1 a?"), "=1");
  EXPECT_EQ(solved("padded_formula", "<bos> | 0 1 . . . a?"), "=1");
  EXPECT_EQ(solved("mixed",
                   "<bos> 0 1 0 a=2 b=1 c=0 d=0 e=0 a+2 a? =0 bits[a]^1 bits[a]? =0 "
                   "if_bits[a]:b,c b? =0 if_bits[b]:c,d a,c bits[a]?"),
            "=1 =0 =1 =0");
}

TEST(Solver, CodeByHand) {
  EXPECT_EQ(solved("swaps",
                   "<bos> a = ( 3 + 4 ) % 5 \\n b = 3 + 4 % 5 \\n assert a == 0 \\n assert b ==", Form::code),
            "2 7");
  EXPECT_EQ(
      solved("swaps", "<bos> bits = [ 1 , 0 ] \\n bits [ bits [ 0 ] ] ^= 1 \\n assert bits [ 1 ] == 0 \\n",
             Form::code),
      "1");
  EXPECT_EQ(solved("swaps", "<bos> a = 1 \\n if a : a = 2 \\n if a % 2 : a = 3 \\n assert a ==", Form::code),
            "2");
}

TEST(Solver, TraceShowsTheStateAfterEveryAction) {
  const auto& problem = problem_named("swaps");
  EXPECT_EQ(problem.trace(Form::tokens, ids_of(problem, Form::tokens, "<bos> a,b c? =2 a,e a? =1")),
            "<bos>  a=0 b=1 c=2 d=3 e=4\n"
            "a,b    a=1 b=0 c=2 d=3 e=4\n"
            "c?     -> =2\n"
            "a,e    a=4 b=0 c=2 d=3 e=1\n"
            "a?     -> =4\n");
}

void expect_rejected(std::string_view name, Form form, std::string_view words, std::string_view part) {
  try {
    solved(name, words, form);
    ADD_FAILURE() << name << " took: " << words;
  } catch (const Error& error) {
    const std::string_view what = error.what();
    EXPECT_TRUE(what.starts_with(std::string(name) + ": ")) << what;
    EXPECT_NE(what.find(part), std::string_view::npos) << what;
  }
}

TEST(Solver, RejectsTokensWithoutMeaning) {
  const auto rejected = [](std::string_view name, std::string_view words, std::string_view part) {
    expect_rejected(name, Form::tokens, words, part);
  };
  rejected("swaps", "", "begins with <bos>");
  rejected("swaps", "a,b a?", "begins with <bos>");
  rejected("swaps", "<bos> a,b =1 a?", "token 2 ('=1'): expected an action or a question");
  rejected("swaps", "<bos> a,b <pad> a?", "token 2 ('<pad>')");
  rejected("recall", "<bos>", "ends after 1 tokens: expected a bit");
  rejected("recall", "<bos> 0 1 bits[2]?", "token 3 ('bits[2]?'): expected a question up to bits[1]?");
  rejected("recall", "<bos> 0 1 bits[0]? =0 1", "token 5 ('1')");
  rejected("counter", "<bos> +1 a?", "token 1 ('+1'): expected the modulus");
  rejected("counter", "<bos> %1 a?", "token 1 ('%1')");
  rejected("counter", "<bos> %3 +3 a?", "token 2 ('+3'): expected a step below +3");
  rejected("state_based_recall", "<bos> 0 1 a=0 b=0 c=0 d=0 a,b", "token 7 ('a,b'): expected e=0 … e=1");
  rejected("state_based_recall", "<bos> 0 1 a=2 b=0 c=0 d=0 e=0", "token 3 ('a=2')");
  rejected("state_based_recall", "<bos> 0 1 a=0 b=0 c=0 d=0 e=0 0", "token 8 ('0')");
  rejected("formula", "<bos> & 1 a?", "token 3 ('a?'): expected a gate or a leaf");
  rejected("formula", "<bos> 1 0 a?", "token 2 ('0'): expected the question");
  rejected("padded_formula", "<bos> & 1 . 1 a?", "token 3 ('.')");
  EXPECT_THROW(problem_named("swaps").solve(Form::tokens, std::vector<std::int32_t>{1, -1}), Error);
  EXPECT_THROW(problem_named("swaps").solve(Form::tokens, std::vector<std::int32_t>{1, 22}), Error);
}

TEST(Solver, RejectsCodeWithoutMeaning) {
  const auto rejected = [](std::string_view words, std::string_view part) {
    expect_rejected("swaps", Form::code, words, part);
  };
  rejected("<bos> a = b", "b has no value yet");
  rejected("<bos> assert a == 1", "a has no value yet");
  rejected("<bos> assert a", "token 1 ('assert'): its line has no '=='");
  rejected("<bos> assert \\n a ==", "its line has no '=='");
  rejected("<bos> a = 1 \\n assert a == 1 1", "token 9 ('1'): expected the line's end");
  rejected("<bos> bits = [ 1 ] \\n a = bits [ 1 ]", "the index 1 is outside bits, of 1");
  rejected("<bos> a = 1 % 0", "modulo by 0");
  rejected("<bos> a = 1 , 2", "2 values for 1 targets");
  rejected("<bos> a , b = range ( 3 )", "3 values for 2 targets");
  rejected("<bos> a = (", "expected a value behind it");
  rejected("<bos> a = [ 1 ]", "a list stands where a number is expected");
  rejected("<bos> a = 1024 \\n a = a + 1 \\n assert a ==", "the answer 1025 is not in the vocabulary");
  rejected("<bos> \\n a = 1", "expected a variable");
  rejected("<bos> a = 1 \\n a , bits [ a ] = 1 , 1", "bits has no value yet");
  std::string deep = "<bos> a =";
  for (int i = 0; i < 100'000; ++i) deep += " bits [";
  rejected(deep, "nested more than 200 deep");
  deep = "<bos> a =";
  for (int i = 0; i < 100'000; ++i) deep += " (";
  rejected(deep, "nested more than 200 deep");
  std::string growing = "<bos> a = 1024";
  for (int i = 0; i < 100; ++i) growing += " \\n a = a + a";
  rejected(growing, "a number is larger than");
}

// Whatever the ids, an answer or an error of one line: examples with a few tokens replaced, left out or put
// twice, and noise.
TEST(Solver, TakesAnyIds) {
  Random random(10);
  int solved_texts = 0, rejected_texts = 0;
  for (const auto name : problem_names()) {
    const auto& problem = problem_named(name);
    for (const auto form : {Form::tokens, Form::code}) {
      const auto words = static_cast<std::uint64_t>(problem.vocabulary(form).size());
      const auto some_word = [&] {  // mostly one of those that are not integers
        return static_cast<std::int32_t>(
            random.below(random.below(4) == 0 ? words : std::min<std::uint64_t>(words, 40)));
      };
      for (std::uint64_t index = 0; index < 400; ++index) {
        auto ids = problem.make(form, {.n = 1 + static_cast<std::int64_t>(random.below(6))}, 11, index).ids;
        for (auto changes = random.below(4); changes-- > 0 && ids.size() > 1;) {
          const auto at = ids.begin() + static_cast<std::int64_t>(1 + random.below(ids.size() - 1));
          const auto change = random.below(3);
          if (change == 0) *at = some_word();
          if (change == 1) ids.erase(at);
          if (change == 2) ids.insert(at, *at);
        }
        try {
          const auto answers = problem.solve(form, ids);
          EXPECT_FALSE(problem.trace(form, ids).empty());
          ++solved_texts;
        } catch (const Error& error) {
          const std::string what = error.what();
          EXPECT_EQ(what.find('\n'), std::string::npos) << what;
          EXPECT_LT(what.size(), 400u) << what;
          ++rejected_texts;
        }
      }
    }
  }
  EXPECT_GT(solved_texts, 1000);
  EXPECT_GT(rejected_texts, 1000);
}

}  // namespace
}  // namespace braid::lab

// State tracking: five variables, permuted action by action (paper, section 3, figure 4). Over S5 the
// actions are its ten transpositions; over A5 they are its sixty elements, so that this is its word problem.
#include <algorithm>
#include <numeric>

#include "braid/lab/problems/parts.h"
#include "braid/lab/problems/problems.h"

namespace braid::lab {
namespace {

using Permutation = std::array<std::size_t, 5>;  // variable i gets the value that variable p[i] had

Permutation identity() {
  Permutation p;
  std::iota(p.begin(), p.end(), std::size_t{0});
  return p;
}

bool is_even(const Permutation& p) {
  int inversions = 0;
  for (std::size_t i = 0; i < 5; ++i)
    inversions += static_cast<int>(std::count_if(p.begin() + i, p.end(), [&](auto x) { return x < p[i]; }));
  return inversions % 2 == 0;
}

struct Action {
  std::string word;
  Permutation permutation;
  std::vector<std::size_t> written;  // the variables that its line of code assigns
};

std::vector<Action> transpositions() {
  std::vector<Action> actions;
  const auto words = swap_words();
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto [first, second] = kSwapPairs[i];
    auto p = identity();
    std::swap(p[first], p[second]);
    actions.push_back({words[i], p, {first, second}});
  }
  return actions;
}

// In lexicographic order; the word "bcade" is a, b, c, d, e = b, c, a, d, e.
std::vector<Action> even_permutations() {
  std::vector<Action> actions;
  auto p = identity();
  do {
    if (!is_even(p)) continue;
    std::string word;
    for (const auto source : p) word += "abcde"[source];
    actions.push_back({word, p, {0, 1, 2, 3, 4}});
  } while (std::ranges::next_permutation(p).found);
  return actions;
}

// Token form: <pad> <bos> =0 … =4, a? … e?, the actions.
constexpr std::int32_t kValues = 2, kQuestions = kValues + 5, kActions = kQuestions + 5;

class Tracking final : public Problem {
 public:
  Tracking(std::string_view name, std::string_view summary, std::vector<Action> actions)
      : name_(name), summary_(summary), actions_(std::move(actions)), tokens_(words_of(actions_)) {}

  std::string_view name() const override { return name_; }
  std::string_view summary() const override { return summary_; }
  std::int64_t words_needed(Form form, const Difficulty&) const override {
    return form == Form::code ? code::integer(5) + 1 : tokens_.size();
  }
  void check(const Difficulty& difficulty) const override {
    check_limits(*this, difficulty, {.reveals = true});
  }
  double chance(const Difficulty&) const override { return 0.2; }

 private:
  static Vocabulary words_of(const std::vector<Action>& actions) {
    Words words;
    for (const auto& action : actions) words.push_back(action.word);
    return Vocabulary(vocabulary_words({numbered("=", 5), questions(), words}));
  }
  const Vocabulary& tokens() const override { return tokens_; }

  ProblemTokens draw(const Difficulty& difficulty, Random& random) const override {
    auto value = identity();
    ProblemTokens text{.ids = {Vocabulary::bos}, .answers = {}};
    const auto ask = [&](std::size_t variable) {
      add_question(text, kQuestions + static_cast<std::int32_t>(variable),
                   kValues + static_cast<std::int32_t>(value[variable]));
    };
    RevealTurns turns(difficulty);
    for (std::int64_t i = 1; i <= difficulty.n; ++i) {
      const auto action = random.below(actions_.size());
      text.ids.push_back(kActions + static_cast<std::int32_t>(action));
      const auto before = value;
      for (std::size_t v = 0; v < 5; ++v) value[v] = before[actions_[action].permutation[v]];
      if (const auto variable = turns.after(i)) ask(*variable);
    }
    ask(0);
    return text;
  }

  Program translate(std::span<const std::int32_t> ids) const override {
    Program program;
    add_variables(program);
    program.add({code::assign, code::range, code::open, code::integer(5), code::close});
    program.end_line(0, 1);
    for (TokenReader reader(tokens_, ids); !reader.done();) {
      const auto id = reader.peek();
      if (id < kQuestions) reader.reject("an action or a question");
      if (id < kActions) {
        translate_question(program, reader, {code::variable(id - kQuestions)}).zero = kValues;
      } else {
        add_action(program, actions_[static_cast<std::size_t>(reader.take() - kActions)]);
        program.end_line(reader.position() - 1, reader.position());
      }
    }
    return program;
  }

  static void add_action(Program& program, const Action& action) {
    const auto add = [&](auto variable_of) {
      for (const auto v : action.written) {
        if (v != action.written.front()) program.add({code::comma});
        program.add({code::variable(static_cast<std::int64_t>(variable_of(v)))});
      }
    };
    add([](std::size_t v) { return v; });
    program.add({code::assign});
    add([&](std::size_t v) { return action.permutation[v]; });
  }

  std::string_view name_, summary_;
  std::vector<Action> actions_;
  Vocabulary tokens_;
};

}  // namespace

const Problem& swaps() {
  static const Tracking problem(
      "swaps", "state tracking over S5: five variables from range(5), n swaps of two, the value of one",
      transpositions());
  return problem;
}

const Problem& a5() {
  static const Tracking problem(
      "a5", "state tracking over A5: five variables from range(5), n even permutations, the value of one",
      even_permutations());
  return problem;
}

}  // namespace braid::lab

// State tracking over S5: five variables, pairwise swaps (paper, section 3 and figure 4).
#include <numeric>

#include "braid/core/error.h"
#include "braid/lab/problems/five.h"
#include "braid/lab/problems/problems.h"
#include "braid/lab/problems/program.h"

namespace braid::lab {
namespace {

// Token form: <pad> <bos> 0 … 4, the questions a? … e?, the ten swaps a,b … d,e.
constexpr std::int32_t kValues = 2, kQuestions = kValues + 5, kSwaps = kQuestions + 5;

class Swaps final : public Problem {
 public:
  std::string_view name() const override { return "swaps"; }
  std::string_view summary() const override {
    return "state tracking over S5: five variables from range(5), n swaps of two, the value of one";
  }
  std::int64_t vocabulary_size(Form form, const Difficulty&) const override {
    return form == Form::code ? code::integer(5) : tokens().size();
  }
  void check(const Difficulty& difficulty) const override {
    check_limits(*this, difficulty, {.reveals = true});
  }
  double chance(const Difficulty&) const override { return 0.2; }

 private:
  const Vocabulary& tokens() const override {
    static const Vocabulary vocabulary(
        words_of({"<pad>", "<bos>"}, {value_words(5), question_words(), swap_words()}));
    return vocabulary;
  }

  Tokens draw(const Difficulty& difficulty, Random& random) const override {
    std::array<std::int32_t, 5> value;
    std::iota(value.begin(), value.end(), 0);
    Tokens out{.ids = {Vocabulary::bos}, .answers = {}};
    const auto ask = [&](std::size_t variable) {
      out.ids.push_back(kQuestions + static_cast<std::int32_t>(variable));
      out.answers.push_back(static_cast<std::int64_t>(out.ids.size()));
      out.ids.push_back(kValues + value[variable]);
    };
    RevealTurns turns(difficulty);
    for (std::int64_t i = 1; i <= difficulty.n; ++i) {
      const auto swap = random.below(kSwapPairs.size());
      out.ids.push_back(kSwaps + static_cast<std::int32_t>(swap));
      std::swap(value[kSwapPairs[swap].first], value[kSwapPairs[swap].second]);
      if (const auto variable = turns.after(i)) ask(*variable);
    }
    ask(0);
    return out;
  }

  Program translate(std::span<const std::int32_t> ids) const override {
    Program program;
    program.add({code::a, code::comma, code::b, code::comma, code::c, code::comma, code::d, code::comma,
                 code::e, code::assign, code::range, code::open, code::integer(5), code::close});
    program.end_line(0, 1);
    for (TokenReader reader(tokens(), ids); !reader.done();) {
      const auto at = reader.position();
      const auto id = reader.peek();
      if (id >= kSwaps) {
        add_swap(program, kSwapPairs[static_cast<std::size_t>(reader.take() - kSwaps)]);
        program.end_line(at, at + 1);
      } else if (id >= kQuestions) {
        program.add({code::assert_word, code::variable(reader.take() - kQuestions), code::equals});
        reader.skip_answer();
        auto& line = program.end_line(at, reader.position());
        line.answer = at + 1, line.zero = kValues;
      } else {
        reader.reject("a swap or a question");
      }
    }
    return program;
  }
};

}  // namespace

const Problem& swaps() {
  static const Swaps problem;
  return problem;
}

}  // namespace braid::lab

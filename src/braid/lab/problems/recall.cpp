// Recall: m bits and an index, the bit there (paper, section 3).
#include "braid/core/error.h"
#include "braid/lab/problems/parts.h"
#include "braid/lab/problems/problems.h"

namespace braid::lab {
namespace {

// Token form: <pad> <bos> =0 =1 0 1, then the questions bits[0]? bits[1]? …
// Code form: bits = [0, 1, 1], a = 2, assert bits[a] == 1.
constexpr std::int32_t kValues = 2, kBits = 4, kQuestions = 6;

class Recall final : public Problem {
 public:
  std::string_view name() const override { return "recall"; }
  std::string_view summary() const override { return "n bits and an index, the bit there"; }
  std::int64_t words_needed(Form form, const Difficulty& difficulty) const override {
    if (form == Form::code) return code::integer(std::max<std::int64_t>(difficulty.n, 2));
    return kQuestions + difficulty.n;
  }
  void check(const Difficulty& difficulty) const override {
    check_limits(*this, difficulty, {.n = kMaxBits});
  }
  double chance(const Difficulty&) const override { return 0.5; }

 private:
  const Vocabulary& tokens() const override {
    static const Vocabulary vocabulary([] {
      Words asked;
      for (std::int64_t i = 0; i < kMaxBits; ++i) asked.push_back("bits[" + std::to_string(i) + "]?");
      return vocabulary_words({numbered("=", 2), numbered("", 2), asked});
    }());
    return vocabulary;
  }

  ProblemTokens draw(const Difficulty& difficulty, Random& random) const override {
    ProblemTokens text{.ids = {Vocabulary::bos}, .answers = {}};
    std::vector<std::int32_t> bits(static_cast<std::size_t>(difficulty.n));
    for (auto& bit : bits) {
      bit = static_cast<std::int32_t>(random.below(2));
      text.ids.push_back(kBits + bit);
    }
    const auto index = random.below(bits.size());
    add_question(text, kQuestions + static_cast<std::int32_t>(index), kValues + bits[index]);
    return text;
  }

  Program translate(std::span<const std::int32_t> ids) const override {
    Program program;
    TokenReader reader(tokens(), ids);
    const auto bits = read_bits(program, reader, kBits);
    while (!reader.done()) {
      const auto index = reader.peek() - kQuestions;
      if (index < 0 || index >= bits) reader.reject(fmt::format("a question up to bits[{}]?", bits - 1));
      program.add({code::a, code::assign, code::integer(index)});
      program.end_line(reader.position(), reader.position() + 1);
      translate_question(program, reader, {code::bits, code::open_bracket, code::a, code::close_bracket})
          .zero = kValues;
    }
    return program;
  }
};

}  // namespace

const Problem& recall() {
  static const Recall problem;
  return problem;
}

}  // namespace braid::lab

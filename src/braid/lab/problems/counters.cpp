// State tracking over cyclic groups: a counter modulo k, and parity, the counter modulo 2 of bits. Parity
// needs a transition with a negative eigenvalue (Grazzi et al. 2025, arXiv 2411.12537).
#include "braid/core/error.h"
#include "braid/lab/problems/parts.h"
#include "braid/lab/problems/problems.h"

namespace braid::lab {
namespace {

// Token form of parity: <pad> <bos> =0 =1 a? 0 1. Code form: a = 0, then a ^= 1 or a ^= 0.
class Parity final : public Problem {
 public:
  std::string_view name() const override { return "parity"; }
  std::string_view summary() const override { return "state tracking over Z2: the parity of n bits"; }
  std::int64_t words_needed(Form form, const Difficulty&) const override {
    return form == Form::code ? code::integer(1) + 1 : tokens().size();
  }
  void check(const Difficulty& difficulty) const override {
    check_limits(*this, difficulty, {.reveals = true});
  }
  double chance(const Difficulty&) const override { return 0.5; }

 private:
  static constexpr std::int32_t kValues = 2, kQuestion = 4, kBits = 5;

  const Vocabulary& tokens() const override {
    static const Vocabulary vocabulary(vocabulary_words({numbered("=", 2), {"a?"}, numbered("", 2)}));
    return vocabulary;
  }

  ProblemTokens draw(const Difficulty& difficulty, Random& random) const override {
    std::int32_t ones = 0;
    ProblemTokens text{.ids = {Vocabulary::bos}, .answers = {}};
    RevealTurns turns(difficulty, 1);
    for (std::int64_t i = 1; i <= difficulty.n; ++i) {
      const auto bit = static_cast<std::int32_t>(random.below(2));
      text.ids.push_back(kBits + bit);
      ones += bit;
      if (turns.after(i)) add_question(text, kQuestion, kValues + ones % 2);
    }
    add_question(text, kQuestion, kValues + ones % 2);
    return text;
  }

  Program translate(std::span<const std::int32_t> ids) const override {
    Program program;
    program.add({code::a, code::assign, code::integer(0)});
    program.end_line(0, 1);
    for (TokenReader reader(tokens(), ids); !reader.done();) {
      const auto id = reader.peek();
      if (id < kQuestion) reader.reject("a bit or a question");
      if (id == kQuestion) {
        translate_question(program, reader, {code::a}).zero = kValues;
      } else {
        program.add({code::a, code::flip, code::integer(reader.take() - kBits)});
        program.end_line(reader.position() - 1, reader.position());
      }
    }
    return program;
  }
};

// Token form: <pad> <bos> a?, then for each k from 0: =k +k %k. Code form: a = 0, then a = (a + 3) % 5.
class Counter final : public Problem {
 public:
  std::string_view name() const override { return "counter"; }
  std::string_view summary() const override {
    return "state tracking over Zk: n numbers added up modulo k (modulus)";
  }
  std::int64_t words_needed(Form form, const Difficulty& difficulty) const override {
    const auto k = modulus_of(difficulty);
    return form == Form::code ? code::integer(k) + 1 : word(kModulus, k) + 1;
  }
  void check(const Difficulty& difficulty) const override {
    check_limits(*this, difficulty, {.reveals = true, .modulus = true});
  }
  double chance(const Difficulty& difficulty) const override {
    return 1.0 / static_cast<double>(modulus_of(difficulty));
  }

 private:
  static constexpr std::int32_t kQuestion = 2, kNumbers = 3, kStride = 3;
  enum Kind : std::int32_t { kValue, kStep, kModulus };

  static std::int64_t modulus_of(const Difficulty& d) { return d.modulus > 0 ? d.modulus : 5; }
  static std::int32_t word(Kind kind, std::int64_t k) {
    return kNumbers + kind + kStride * static_cast<std::int32_t>(k);
  }
  static bool is(Kind kind, std::int32_t id) { return id >= kNumbers && (id - kNumbers) % kStride == kind; }
  static std::int64_t number(std::int32_t id) { return (id - kNumbers) / kStride; }

  const Vocabulary& tokens() const override {
    static const Vocabulary vocabulary([] {
      Words words = {"a?"};
      for (std::int64_t k = 0; k <= kMaxModulus; ++k) {
        for (const auto* kind : {"=", "+", "%"}) words.push_back(kind + std::to_string(k));
      }
      return vocabulary_words({words});
    }());
    return vocabulary;
  }

  ProblemTokens draw(const Difficulty& difficulty, Random& random) const override {
    const auto k = modulus_of(difficulty);
    std::int64_t sum = 0;  // at most 4096 * 63
    ProblemTokens text{.ids = {Vocabulary::bos, word(kModulus, k)}, .answers = {}};
    RevealTurns turns(difficulty, 1);
    for (std::int64_t i = 1; i <= difficulty.n; ++i) {
      const auto step = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(k)));
      text.ids.push_back(word(kStep, step));
      sum += step;
      if (turns.after(i)) add_question(text, kQuestion, word(kValue, sum % k));
    }
    add_question(text, kQuestion, word(kValue, sum % k));
    return text;
  }

  Program translate(std::span<const std::int32_t> ids) const override {
    Program program;
    TokenReader reader(tokens(), ids);
    if (!is(kModulus, reader.peek()) || number(reader.peek()) < 2) reader.reject("the modulus, from %2");
    const auto k = number(reader.take());
    program.add({code::a, code::assign, code::integer(0)});
    program.end_line(0, 2);
    while (!reader.done()) {
      const auto id = reader.peek();
      if (id == kQuestion) {
        auto& line = translate_question(program, reader, {code::a});
        line.zero = word(kValue, 0), line.stride = kStride;
        continue;
      }
      if (!is(kStep, id) || number(id) >= k) reader.reject(fmt::format("a step below +{} or a question", k));
      program.add({code::a, code::assign, code::open, code::a, code::plus,
                   code::integer(number(reader.take())), code::close, code::modulo, code::integer(k)});
      program.end_line(reader.position() - 1, reader.position());
    }
    return program;
  }
};

}  // namespace

const Problem& parity() {
  static const Parity problem;
  return problem;
}

const Problem& counter() {
  static const Counter problem;
  return problem;
}

}  // namespace braid::lab

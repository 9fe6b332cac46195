// Boolean formulas in Polish notation: each gate stands before its operands, so no brackets are needed. Their
// evaluation is complete for NC1 (Buss 1987). Padded ones have tokens without meaning between formula and
// question: room for a model to work in (paper, corollary 3.1).
#include "braid/core/error.h"
#include "braid/lab/problems/parts.h"
#include "braid/lab/problems/problems.h"

namespace braid::lab {
namespace {

// Token form: <pad> <bos> =0 =1 a? 0 1 & | ! and, if padded, the padding token "."
// Code form, whose functions come from Python's module operator: a = and_(1, or_(0, not_(1))), # . . .
constexpr std::int32_t kValues = 2, kQuestion = 4, kLeaves = 5, kAnd = 7, kOr = 8, kNot = 9, kPadding = 10;

// Appends a random formula and returns its value. Sizes of operands are uniform among those that keep the
// depth; one node in four has a negation before it.
std::int32_t grow(std::vector<std::int32_t>& ids, std::int64_t leaves, std::int64_t depth, Random& random) {
  const bool negated = random.below(4) == 0;
  if (negated) ids.push_back(kNot);
  std::int32_t value = 0;
  if (leaves == 1) {
    value = static_cast<std::int32_t>(random.below(2));
    ids.push_back(kLeaves + value);
  } else {
    const auto most = depth > 32 ? leaves - 1 : std::min(leaves - 1, std::int64_t{1} << (depth - 1));
    const auto least = leaves - most;  // what the other operand leaves over
    const auto left =
        least + static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(most - least + 1)));
    const bool both = random.below(2) == 0;
    ids.push_back(both ? kAnd : kOr);
    const auto x = grow(ids, left, depth - 1, random);
    const auto y = grow(ids, leaves - left, depth - 1, random);
    value = both ? std::min(x, y) : std::max(x, y);
  }
  return negated ? 1 - value : value;
}

class Formula final : public Problem {
 public:
  enum class Padding : std::uint8_t { none, dots };
  Formula(std::string_view name, std::string_view summary, Padding padding)
      : name_(name),
        summary_(summary),
        padding_(padding),
        tokens_(vocabulary_words({numbered("=", 2),
                                  {"a?"},
                                  numbered("", 2),
                                  {"&", "|", "!"},
                                  padding == Padding::dots ? Words{"."} : Words{}})) {}

  std::string_view name() const override { return name_; }
  std::string_view summary() const override { return summary_; }
  std::int64_t words_needed(Form form, const Difficulty&) const override {
    return form == Form::code ? code::integer(1) + 1 : tokens_.size();
  }
  void check(const Difficulty& d) const override {
    check_limits(*this, d, {.depth = true, .padding = padding_ == Padding::dots});
    const auto room = std::int64_t{1} << std::min<std::int64_t>(d.depth, 12);  // the largest n there is
    require(d.depth == 0 || d.n <= room, "{}: depth {} has room for {} leaves, n is {}", name(), d.depth,
            room, d.n);
    require(padding_ == Padding::none || dots_of(d) <= kMaxPadding,
            "{}: padding of n * n is {}, more than {}: set padding", name(), d.n * d.n, kMaxPadding);
  }
  double chance(const Difficulty&) const override { return 0.5; }

 private:
  static std::int64_t dots_of(const Difficulty& d) { return d.padding > 0 ? d.padding : d.n * d.n; }
  const Vocabulary& tokens() const override { return tokens_; }

  ProblemTokens draw(const Difficulty& d, Random& random) const override {
    ProblemTokens text{.ids = {Vocabulary::bos}, .answers = {}};
    const auto value = grow(text.ids, d.n, d.depth > 0 ? d.depth : kMaxDepth, random);
    if (padding_ == Padding::dots) {
      text.ids.insert(text.ids.end(), static_cast<std::size_t>(dots_of(d)), kPadding);
    }
    add_question(text, kQuestion, kValues + value);
    return text;
  }

  Program translate(std::span<const std::int32_t> ids) const override {
    Program program;
    program.add({code::from, code::operator_module, code::import, code::and_function, code::comma,
                 code::or_function, code::comma, code::not_function});
    program.end_line(0, 1);
    TokenReader reader(tokens_, ids);
    translate_formula(program, reader);
    const auto dots = reader.position();
    if (reader.peek() == kPadding) program.add({code::comment});
    while (reader.peek() == kPadding) reader.take(), program.add({code::dot});
    if (reader.position() > dots) program.end_line(dots, reader.position());
    while (!reader.done()) {
      if (reader.peek() != kQuestion) reader.reject("the question");
      translate_question(program, reader, {code::a}).zero = kValues;
    }
    return program;
  }

  static void translate_formula(Program& program, TokenReader& reader) {
    const auto begin = reader.position();
    program.add({code::a, code::assign});
    std::vector<int> missing;  // operands, of each gate that is open
    do {
      const auto id = reader.peek();
      if (id < kLeaves || id >= kPadding) reader.reject("a gate or a leaf of the formula");
      reader.take();
      if (id >= kAnd) {
        program.add({id == kAnd  ? code::and_function
                     : id == kOr ? code::or_function
                                 : code::not_function,
                     code::open});
        missing.push_back(id == kNot ? 1 : 2);
        continue;
      }
      program.add({code::integer(id - kLeaves)});
      while (!missing.empty() && --missing.back() == 0) {
        missing.pop_back();
        program.add({code::close});
      }
      if (!missing.empty()) program.add({code::comma});
    } while (!missing.empty());
    program.end_line(begin, reader.position());
  }

  std::string_view name_, summary_;
  Padding padding_;
  Vocabulary tokens_;
};

}  // namespace

const Problem& formula() {
  static const Formula problem("formula", "Boolean formulas of n leaves in Polish notation, their value",
                               Formula::Padding::none);
  return problem;
}

const Problem& padded_formula() {
  static const Formula problem("padded_formula", "formulas with padding tokens behind them",
                               Formula::Padding::dots);
  return problem;
}

}  // namespace braid::lab

// State-based recall (paper, definition 2): bits x, five pointers p, transpositions pi_1 … pi_n; with
// q = (pi_n ∘ … ∘ pi_1)(p) the answer is the bit at q_1. As code: five variables that index a list, swapped
// line by line in that order, and `assert bits[a]`.
// `mixed` is code execution on the same state with more actions: sums modulo m, flips of bits, swaps under a
// condition. All are reversible, so that a uniform state stays uniform and no answer becomes more likely.
#include <algorithm>

#include "braid/core/error.h"
#include "braid/lab/problems/parts.h"
#include "braid/lab/problems/problems.h"

namespace braid::lab {
namespace {

// Token form: <pad> <bos> 0 1, a? … e?, bits[a]? … bits[e]?, the ten swaps; of mixed also a+1 … e+4,
// bits[a]^1 … bits[e]^1, if_bits[a]:b,c …; then for each k from 0: =k a=k b=k c=k d=k e=k.
constexpr std::int32_t kBits = 2, kQuestions = 4, kBitQuestions = 9, kSwaps = 14, kSums = 24;
constexpr std::int32_t kLargestStep = 4, kFlips = kSums + 5 * kLargestStep, kConditions = kFlips + 5;
constexpr std::int32_t kStride = 6;

struct Condition {
  std::size_t variable;  // not one of the pair: the action could not be undone
  SwapPair pair;
};

std::vector<Condition> all_conditions() {
  std::vector<Condition> conditions;
  for (std::size_t v = 0; v < 5; ++v) {
    for (const auto& pair : kSwapPairs) {
      if (v != pair.first && v != pair.second) conditions.push_back({v, pair});
    }
  }
  return conditions;
}

// What the generator runs.
struct State {
  std::array<std::int64_t, 5> index{};
  std::vector<std::int32_t> bits;

  std::int32_t& bit(std::size_t variable) { return bits[static_cast<std::size_t>(index[variable])]; }
  void swap(const SwapPair& pair) { std::swap(index[pair.first], index[pair.second]); }
};

class IndexedBits final : public Problem {
 public:
  enum class Actions : std::uint8_t { swaps, all };
  IndexedBits(std::string_view name, std::string_view summary, Actions actions)
      : name_(name), summary_(summary), actions_(actions), conditions_(all_conditions()), tokens_(words()) {}

  std::string_view name() const override { return name_; }
  std::string_view summary() const override { return summary_; }
  std::int64_t words_needed(Form form, const Difficulty& difficulty) const override {
    const auto m = bits_of(difficulty);
    if (form == Form::code)
      return code::integer(std::max<std::int64_t>(
          {m, 2, actions_ == Actions::all ? std::max<std::int64_t>(m, kLargestStep) + 1 : 0}));
    return indices() + kStride * std::max<std::int64_t>(m, 2);
  }
  void check(const Difficulty& difficulty) const override {
    check_limits(*this, difficulty, {.reveals = true, .bits = true, .reveal_kind = true});
    require(bits_of(difficulty) <= kMaxBits, "{}: as many bits as actions are {}, more than {}: set bits",
            name(), bits_of(difficulty), kMaxBits);
  }
  double chance(const Difficulty&) const override { return 0.5; }

 private:
  static std::int64_t bits_of(const Difficulty& d) { return d.bits > 0 ? d.bits : d.n; }
  std::int32_t indices() const {
    return actions_ == Actions::all ? kConditions + static_cast<std::int32_t>(conditions_.size()) : kSums;
  }

  Words words() const;
  const Vocabulary& tokens() const override { return tokens_; }
  ProblemTokens draw(const Difficulty& difficulty, Random& random) const override;
  std::int32_t act(State& state, Random& random) const;
  Program translate(std::span<const std::int32_t> ids) const override;
  void translate_indices(Program& program, TokenReader& reader, std::int64_t bits) const;
  void translate_action(Program& program, std::int32_t id, std::int64_t bits) const;

  std::string_view name_, summary_;
  Actions actions_;
  std::vector<Condition> conditions_;
  Vocabulary tokens_;
};

Words IndexedBits::words() const {
  const std::string_view names = "abcde";
  Words bit_questions, more, numbers;
  for (const char v : names) bit_questions.push_back(fmt::format("bits[{}]?", v));
  if (actions_ == Actions::all) {
    for (const char v : names) {
      for (int k = 1; k <= kLargestStep; ++k) more.push_back(fmt::format("{}+{}", v, k));
    }
    for (const char v : names) more.push_back(fmt::format("bits[{}]^1", v));
    for (const auto& [v, pair] : conditions_) {
      more.push_back(fmt::format("if_bits[{}]:{},{}", names[v], names[pair.first], names[pair.second]));
    }
  }
  for (std::int64_t k = 0; k < kMaxBits; ++k) {
    numbers.push_back(fmt::format("={}", k));
    for (const char v : names) numbers.push_back(fmt::format("{}={}", v, k));
  }
  return vocabulary_words({numbered("", 2), questions(), bit_questions, swap_words(), more, numbers});
}

// Does a random action and returns its word; of mixed each kind is as likely as another.
std::int32_t IndexedBits::act(State& state, Random& random) const {
  const auto pick = [&](std::size_t count) { return random.below(count); };
  switch (actions_ == Actions::all ? pick(4) : 0) {
    case 0: {
      const auto swap = pick(kSwapPairs.size());
      state.swap(kSwapPairs[swap]);
      return kSwaps + static_cast<std::int32_t>(swap);
    }
    case 1: {
      const auto sum = pick(5 * kLargestStep);
      auto& index = state.index[sum / kLargestStep];
      index = (index + static_cast<std::int64_t>(sum % kLargestStep) + 1) %
              static_cast<std::int64_t>(state.bits.size());
      return kSums + static_cast<std::int32_t>(sum);
    }
    case 2: {
      const auto variable = pick(5);
      state.bit(variable) = 1 - state.bit(variable);
      return kFlips + static_cast<std::int32_t>(variable);
    }
    default: {
      const auto condition = pick(conditions_.size());
      if (state.bit(conditions_[condition].variable) == 1) state.swap(conditions_[condition].pair);
      return kConditions + static_cast<std::int32_t>(condition);
    }
  }
}

ProblemTokens IndexedBits::draw(const Difficulty& difficulty, Random& random) const {
  State state;
  state.bits.resize(static_cast<std::size_t>(bits_of(difficulty)));
  ProblemTokens text{.ids = {Vocabulary::bos}, .answers = {}};
  for (auto& bit : state.bits) {
    bit = static_cast<std::int32_t>(random.below(2));
    text.ids.push_back(kBits + bit);
  }
  const auto number_word = [&](std::size_t kind, std::int64_t k) {
    return indices() + static_cast<std::int32_t>(kind) + kStride * static_cast<std::int32_t>(k);
  };
  for (std::size_t v = 0; v < 5; ++v) {
    state.index[v] = static_cast<std::int64_t>(random.below(state.bits.size()));
    text.ids.push_back(number_word(1 + v, state.index[v]));
  }
  const auto ask = [&](std::size_t v, Reveal what) {
    const bool bit = what == Reveal::bit;
    add_question(text, (bit ? kBitQuestions : kQuestions) + static_cast<std::int32_t>(v),
                 number_word(0, bit ? state.bit(v) : state.index[v]));
  };
  RevealTurns turns(difficulty);
  for (std::int64_t i = 1; i <= difficulty.n; ++i) {
    text.ids.push_back(act(state, random));
    if (const auto variable = turns.after(i)) ask(*variable, difficulty.reveals);
  }
  ask(0, Reveal::bit);
  return text;
}

void IndexedBits::translate_indices(Program& program, TokenReader& reader, std::int64_t bits) const {
  const auto begin = reader.position();
  add_variables(program);
  program.add({code::assign});
  for (std::int32_t v = 0; v < 5; ++v) {
    const auto place = reader.peek() - indices();
    if (place < 0 || place % kStride != 1 + v || place / kStride >= bits) {
      reader.reject(fmt::format("{}=0 … {}={}", "abcde"[v], "abcde"[v], bits - 1));
    }
    reader.take();
    if (v > 0) program.add({code::comma});
    program.add({code::integer(place / kStride)});
  }
  program.end_line(begin, reader.position());
}

void IndexedBits::translate_action(Program& program, std::int32_t id, std::int64_t bits) const {
  if (id < kSums) {
    add_swap(program, kSwapPairs[static_cast<std::size_t>(id - kSwaps)]);
  } else if (id < kFlips) {
    const auto v = code::variable((id - kSums) / kLargestStep);
    program.add({v, code::assign, code::open, v, code::plus, code::integer((id - kSums) % kLargestStep + 1),
                 code::close, code::modulo, code::integer(bits)});
  } else if (id < kConditions) {
    program.add({code::bits, code::open_bracket, code::variable(id - kFlips), code::close_bracket, code::flip,
                 code::integer(1)});
  } else {
    const auto& [v, pair] = conditions_[static_cast<std::size_t>(id - kConditions)];
    program.add({code::if_word, code::bits, code::open_bracket, code::variable(static_cast<std::int64_t>(v)),
                 code::close_bracket, code::colon});
    add_swap(program, pair);
  }
}

Program IndexedBits::translate(std::span<const std::int32_t> ids) const {
  Program program;
  TokenReader reader(tokens_, ids);
  const auto bits = read_bits(program, reader, kBits);
  translate_indices(program, reader, bits);
  while (!reader.done()) {
    const auto id = reader.peek();
    if (id < kQuestions || id >= indices()) reader.reject("an action or a question");
    if (id < kSwaps) {
      const auto v = code::variable((id - kQuestions) % 5);
      auto& line =
          id < kBitQuestions
              ? translate_question(program, reader, {v})
              : translate_question(program, reader, {code::bits, code::open_bracket, v, code::close_bracket});
      line.zero = indices(), line.stride = kStride;
    } else {
      translate_action(program, reader.take(), bits);
      program.end_line(reader.position() - 1, reader.position());
    }
  }
  return program;
}

}  // namespace

const Problem& state_based_recall() {
  static const IndexedBits problem("state_based_recall",
                                   "definition 2: bits, five indices, n swaps of them, the bit at the first",
                                   IndexedBits::Actions::swaps);
  return problem;
}

const Problem& mixed() {
  static const IndexedBits problem(
      "mixed",
      "code execution: bits, five indices, n swaps, sums, flips and conditions, the bit at the first",
      IndexedBits::Actions::all);
  return problem;
}

}  // namespace braid::lab

// Padded formulas of any shape (paper, theorem 3 and corollary 3.1): the delta rule parses the formula,
// attention asks for each instruction of a branching program whether it is to be done, the delta rule does
// it.
#include <algorithm>
#include <bit>
#include <cmath>

#include "braid/lab/constructions/constructions.h"
#include "braid/lab/constructions/five_rows.h"
#include "braid/lab/constructions/polish_parser.h"
#include "braid/lab/constructions/program_layer.h"

namespace braid::lab {
namespace {

using model::LayerType;

constexpr std::int64_t kMostLeaves = 32;
constexpr float kSharpness = 1024;

// Sizes of the formulas of n leaves: every shape up to 4 leaves, then one level more than the flattest has.
std::int64_t depth_of(std::int64_t n) {
  require(n >= 1 && n <= kMostLeaves, "formula-any-shape: n is {} leaves, expected 1 to {}", n, kMostLeaves);
  return std::min<std::int64_t>(n - 1, std::bit_width(static_cast<std::uint64_t>(n - 1)) + 1);
}
std::int64_t shortest(std::int64_t n) { return 2 * n - 1; }
std::int64_t longest(std::int64_t n) { return 2 * shortest(n); }  // a negation before every node

struct Layout {
  explicit Layout(std::int64_t depth)
      : bits(address_bits(depth)), stream(bits + 2 < 16 ? 16 : 64, 1), parser(stream, depth) {}

  std::int64_t bits;
  Stream stream;
  ParserSpans parser;
  ProgramSpans program{stream};
  Span output = stream.reserve(bits);    // of an instruction: the node whose output it depends on
  Span operands = stream.reserve(bits);  // or whose operands
  Span seek = stream.reserve(1);         // of instructions and the question
  Span found = stream.reserve(2);        // no, yes; neither where there is no such node
};

class AnyShape final : public Construction {
 public:
  std::string_view name() const override { return "formula-any-shape"; }
  std::string_view summary() const override {
    return "theorem 3: padded formulas of any shape, with negations, n leaves, parsed by the delta rule";
  }
  const Problem& problem() const override { return problem_named("padded_formula"); }
  std::vector<std::int64_t> usual_sizes() const override { return {1, 2, 3, 4, 8}; }
  Example example(std::int64_t n, std::uint64_t seed, std::uint64_t index) const override;
  model::Model build(std::int64_t n) const override;
  Reading read(std::int64_t n, const Example& example) const override;
  std::int64_t count(std::int64_t n, std::int64_t most) const override;
  Example numbered(std::int64_t n, std::int64_t index) const override;

 private:
  std::int32_t id(std::string_view word) const { return problem().vocabulary(Form::tokens).id(word); }
  std::int64_t own_words() const { return problem().vocabulary(Form::tokens).size(); }
  std::vector<std::int32_t> symbols() const { return {id("0"), id("1"), id("&"), id("|"), id("!")}; }
  // Of the formula's tokens: at even places, then at odd ones.
  std::int32_t formula_word(std::int64_t parity, std::int64_t symbol) const {
    return static_cast<std::int32_t>(own_words() + parity * kSymbols + symbol);
  }
  std::int32_t instruction_word(std::int64_t t) const { return formula_word(2, t); }
  void set_words(HandBuilt& built, const Layout& at, const BranchingProgram& program) const;
  void set_question(HandBuilt& built, const Layout& at, std::int64_t head_dim) const;
  void append_numbered(std::vector<std::int32_t>& ids, std::int64_t leaves, std::int64_t index) const;
};

std::int64_t instructions_of(std::int64_t n) {
  return static_cast<std::int64_t>(branching_program(depth_of(n)).instructions.size());
}
// Enough behind the shortest formula: instructions begin where the longest one may end.
std::int64_t padding_of(std::int64_t n) { return longest(n) - shortest(n) + instructions_of(n); }

Example AnyShape::example(std::int64_t n, std::uint64_t seed, std::uint64_t index) const {
  return problem().make(Form::tokens, {.n = n, .depth = depth_of(n), .padding = padding_of(n)}, seed, index);
}

// Formulas of m leaves, a negation or none before each node.
std::vector<std::int64_t> counts(std::int64_t m) {
  std::vector<std::int64_t> c{0, 4};
  for (std::int64_t leaves = 2; leaves <= m; ++leaves) {
    std::int64_t pairs = 0;
    for (std::int64_t left = 1; left < leaves; ++left) {
      pairs += c[static_cast<std::size_t>(left)] * c[static_cast<std::size_t>(leaves - left)];
    }
    c.push_back(4 * pairs);
  }
  return c;
}

// All shapes of at most n leaves.
std::int64_t AnyShape::count(std::int64_t n, std::int64_t most) const {
  require(n >= 1 && n <= 4, "{}: every formula is listed for n = 1 to 4", name());
  std::int64_t sum = 0;
  for (const auto c : counts(n)) sum += c;
  require(sum <= most, "{}: there are more than {} instances of size {}: choose a smaller one", name(), most,
          n);
  return sum;
}

void AnyShape::append_numbered(std::vector<std::int32_t>& ids, std::int64_t leaves,
                               std::int64_t index) const {
  const auto list = symbols();
  if (index % 2 == 1) ids.push_back(list[4]);
  ids.push_back(list[static_cast<std::size_t>(index / 2 % 2 + (leaves > 1 ? 2 : 0))]);
  index /= 4;
  const auto c = counts(leaves);
  for (std::int64_t left = 1; left < leaves; ++left) {
    const auto lefts = c[static_cast<std::size_t>(left)], rights = c[static_cast<std::size_t>(leaves - left)];
    if (index >= lefts * rights) {
      index -= lefts * rights;
      continue;
    }
    append_numbered(ids, left, index % lefts);
    return append_numbered(ids, leaves - left, index / lefts);
  }
}

Example AnyShape::numbered(std::int64_t n, std::int64_t index) const {
  Example example{.ids = {Vocabulary::bos}, .answers = {}, .code = {}};
  const auto c = counts(n);
  std::int64_t leaves = 1;
  while (index >= c[static_cast<std::size_t>(leaves)]) index -= c[static_cast<std::size_t>(leaves++)];
  append_numbered(example.ids, leaves, index);
  example.ids.resize(static_cast<std::size_t>(1 + longest(n) + instructions_of(n)), id("."));
  example.ids.push_back(id("a?"));
  example.answers.push_back(static_cast<std::int64_t>(example.ids.size()));
  example.ids.push_back(problem().solve(Form::tokens, example.ids).back());
  return example;
}

// Polish notation's depth in gates of two operands.
std::int64_t depth_from(const std::vector<std::int64_t>& symbols) {
  std::vector<std::int64_t> open{0};  // depths at which operands are still to come
  std::int64_t deepest = 0;
  for (const auto symbol : symbols) {
    if (symbol == static_cast<std::int64_t>(Symbol::negation) || open.empty()) continue;
    const auto depth = open.back();
    deepest = std::max(deepest, depth);
    open.pop_back();
    if (symbol > static_cast<std::int64_t>(Symbol::one)) open.insert(open.end(), 2, depth + 1);
  }
  return deepest;
}

Reading AnyShape::read(std::int64_t n, const Example& example) const {
  auto reading = Construction::read(n, example);
  const auto list = symbols();
  const auto dot = id("."), instructions = static_cast<std::int32_t>(instructions_of(n));
  const auto first = 1 + longest(n);  // instruction
  std::vector<std::int64_t> formula;
  for (std::int64_t i = 1; i + 1 < static_cast<std::int64_t>(reading.ids.size()); ++i) {
    auto& token = reading.ids[static_cast<std::size_t>(i)];
    if (token == dot) {
      if (i >= first && i < first + instructions) token = instruction_word(i - first);
      continue;
    }
    const auto symbol = std::ranges::find(list, token) - list.begin();
    require(symbol < kSymbols, "{}: token {} is '{}', expected a formula", name(), i,
            problem().vocabulary(Form::tokens).word(token));
    formula.push_back(symbol);
    token = formula_word(i % 2, symbol);
  }
  require(std::ssize(formula) <= longest(n) && depth_from(formula) <= depth_of(n),
          "{}: a formula of {} tokens and depth {}, the model of n = {} reads up to {} and {}", name(),
          formula.size(), depth_from(formula), n, longest(n), depth_of(n));
  require(std::ssize(reading.ids) > first + instructions,
          "{}: a text of {} tokens, the model of n = {} needs {}", name(), reading.ids.size(), n,
          first + instructions + 1);
  return reading;
}

void AnyShape::set_words(HandBuilt& built, const Layout& at, const BranchingProgram& program) const {
  auto begin = begin_features(at.parser);
  begin.push_back({at.program.start[0]});
  built.embed(Vocabulary::bos, begin);
  built.embed(id("a?"), {{at.program.ask[0]}, {at.seek[0]}});
  for (const std::int64_t parity : {0, 1}) {
    for (std::int64_t symbol = 0; symbol < kSymbols; ++symbol) {
      built.embed(formula_word(parity, symbol),
                  symbol_features(at.parser, static_cast<Symbol>(symbol), parity));
    }
  }
  for (std::size_t t = 0; t < program.instructions.size(); ++t) {
    const auto& instruction = program.instructions[t];
    std::vector<Feature> features{{swap_coordinate(at.program, instruction)}, {at.seek[0]}};
    const auto& wanted = instruction.turned == Turned::output ? at.output : at.operands;
    const auto code = node_code(at.parser.depth, instruction.node);
    for (std::int64_t bit = 0; bit < at.bits; ++bit) {
      features.push_back({wanted[bit], code[static_cast<std::size_t>(bit)]});
    }
    built.embed(instruction_word(static_cast<std::int64_t>(t)), features);
  }
}

// Two heads, for the two things that a node says. <bos> scores halfway between the node that is wanted and
// the likest other one, and has nothing to say.
void AnyShape::set_question(HandBuilt& built, const Layout& at, std::int64_t head_dim) const {
  constexpr std::size_t kLayer = 2;
  const auto attention = built.attention(kLayer);
  const auto bits = static_cast<double>(at.bits);
  for (const std::int64_t head : {0, 1}) {
    const auto row = head * head_dim;
    const auto& wanted = head == 0 ? at.output : at.operands;
    const auto& value = head == 0 ? at.parser.output : at.parser.operands;
    for (std::int64_t bit = 0; bit < at.bits; ++bit) {
      attention.query(row + bit, wanted[bit]) = 1;
      attention.key(row + bit, at.parser.address[bit]) = 1;
    }
    // A key is normed: <bos> has one entry where a node has `bits`.
    attention.query(row + at.bits, at.seek[0]) = static_cast<float>((bits - 1) / std::sqrt(bits));
    attention.key(row + at.bits, at.parser.start[0]) = 1;
    for (const std::int64_t said : {0, 1}) {
      attention.value(row + said, value[said]) = 1;
      attention.output(at.found[said], row + said) = 1;
    }
  }
  built.sharpen(kLayer, kSharpness);
  built.set_mixer_norm(kLayer, at.stream.amplitude() / std::sqrt(static_cast<float>(at.stream.width())));
}

model::Model AnyShape::build(std::int64_t n) const {
  const auto program = branching_program(depth_of(n));
  const auto instructions = std::ssize(program.instructions);
  const Layout at(depth_of(n));
  auto config =
      stack_config(instruction_word(instructions), at.stream.width(),
                   {LayerType::linear_attention, LayerType::linear_attention, LayerType::full_attention,
                    LayerType::linear_attention},
                   std::max<std::int64_t>(parser_hidden(depth_of(n)), 4), longest(n) + padding_of(n) + 3);
  config.linear.key_heads = config.linear.value_heads = kParserHeads;  // the last layer uses two
  config.linear.key_dim = kParserKeyDim;
  config.linear.value_dim = kParserValueDim;
  config.attention.heads = config.attention.kv_heads = 2;
  config.attention.head_dim = at.bits < 16 ? 16 : 32;
  static_assert(kParserKeyDim == kProgramKeyDim && kParserValueDim == kProgramValueDim);
  HandBuilt built(config, at.stream);
  set_words(built, at, program);
  set_parser(built, at.stream, at.parser);
  set_question(built, at, config.attention.head_dim);
  set_program_layer(built, 3, at.stream, at.program, at.found[1], program.true_place,
                    {id(answer_word(0)), id(answer_word(1))});
  return std::move(built).take();
}

}  // namespace

const Construction& any_shape_formula() {
  static const AnyShape construction;
  return construction;
}

}  // namespace braid::lab

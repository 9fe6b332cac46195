// Padded formulas by attention and then the delta rule (paper, theorem 3 and corollary 3.1): padding token t
// is instruction t of a branching program; attention asks the formula whether it is to be done, the delta
// rule does it.
#include <algorithm>
#include <bit>

#include "braid/core/random.h"
#include "braid/lab/constructions/constructions.h"
#include "braid/lab/constructions/five_rows.h"
#include "braid/lab/constructions/lookup.h"
#include "braid/lab/constructions/program_layer.h"

namespace braid::lab {
namespace {

using model::LayerType;

struct Layout {
  explicit Layout(std::int64_t tokens) : bits(code_bits(tokens)) {}

  std::int64_t bits;
  Stream stream{16, 1};
  ProgramSpans program{stream};
  Span wanted = stream.reserve(bits);  // of padding: the code of the token its instruction depends on
  Span place = stream.reserve(bits);   // of the formula's tokens
  Span value = stream.reserve(3);      // 0 and &: 0; 1 and |: 1; <bos>: 2
  Span found = stream.reserve(3);
};

class PaddedFormula final : public Construction {
 public:
  std::string_view name() const override { return "formula"; }
  std::string_view summary() const override {
    return "theorem 3: padded complete formulas of & and |, n leaves, as products of transpositions in S5";
  }
  const Problem& problem() const override { return problem_named("padded_formula"); }
  std::vector<std::int64_t> usual_sizes() const override { return {2, 4, 8, 16}; }
  Example example(std::int64_t n, std::uint64_t seed, std::uint64_t index) const override;
  model::Model build(std::int64_t n) const override;
  Reading read(std::int64_t n, const Example& example) const override;
  std::vector<std::int32_t> alternatives(std::int64_t n, std::int32_t id) const override;

 private:
  std::int64_t depth_of(std::int64_t n) const {
    const bool power = n >= 2 && n <= 64 && std::has_single_bit(static_cast<std::uint64_t>(n));
    require(power, "{}: n is {} leaves, expected 2, 4, 8, 16, 32 or 64, for a complete formula", name(), n);
    return std::countr_zero(static_cast<std::uint64_t>(n));
  }
  std::int32_t id(std::string_view word) const { return problem().vocabulary(Form::tokens).id(word); }
  std::int64_t own_words() const { return problem().vocabulary(Form::tokens).size(); }
  // Token t of the formula: its words, in the order 0, 1, &, |.
  PlacedWords formula_words() const { return {.first = own_words(), .words = 4}; }
  PlacedWords padding_words(std::int64_t n) const {
    return {.first = own_words() + 4 * tree_nodes(depth_of(n)), .words = 1};
  }
  std::vector<std::int32_t> symbols() const { return {id("0"), id("1"), id("&"), id("|")}; }
  void set_words(HandBuilt& built, const Layout& at, std::int64_t n, const BranchingProgram& program) const;
};

// In Polish notation, a complete formula of n leaves with random gates and leaves.
void append_formula(std::vector<std::int32_t>& ids, std::int64_t depth,
                    const std::vector<std::int32_t>& symbols, Random& random) {
  ids.push_back(symbols[(depth > 0 ? 2 : 0) + random.below(2)]);
  for (int side = 0; side < 2 && depth > 0; ++side) append_formula(ids, depth - 1, symbols, random);
}

Example PaddedFormula::example(std::int64_t n, std::uint64_t seed, std::uint64_t index) const {
  Random random(seed, index);
  Example example{.ids = {Vocabulary::bos}, .answers = {}, .code = {}};
  append_formula(example.ids, depth_of(n), symbols(), random);
  example.ids.resize(example.ids.size() + branching_program(depth_of(n)).instructions.size(), id("."));
  example.ids.push_back(id("a?"));
  example.answers.push_back(static_cast<std::int64_t>(example.ids.size()));
  example.ids.push_back(problem().solve(Form::tokens, example.ids).back());
  return example;
}

Reading PaddedFormula::read(std::int64_t n, const Example& example) const {
  auto reading = Construction::read(n, example);
  const auto tokens = tree_nodes(depth_of(n));
  const auto list = symbols();
  for (std::int64_t i = 1; i + 1 < static_cast<std::int64_t>(reading.ids.size()); ++i) {
    auto& token = reading.ids[static_cast<std::size_t>(i)];
    if (i > tokens) {
      token = padding_words(n).id(i - 1 - tokens, 0);
      continue;
    }
    const auto symbol = std::ranges::find(list, token) - list.begin();
    require(symbol < 4, "{}: token {} is '{}', expected 0, 1, & or |", name(), i,
            problem().vocabulary(Form::tokens).word(token));
    token = formula_words().id(i - 1, symbol);
  }
  return reading;
}

void PaddedFormula::set_words(HandBuilt& built, const Layout& at, std::int64_t n,
                              const BranchingProgram& program) const {
  built.embed(Vocabulary::bos, {{at.program.start[0]}, {at.value[2]}});
  built.embed(id("a?"), {{at.program.ask[0]}});
  for (std::int64_t place = 0; place < tree_nodes(depth_of(n)); ++place) {
    for (const std::int64_t symbol : {0, 1, 2, 3}) {
      std::vector<Feature> features{{at.value[symbol % 2]}};
      add_code(features, at.place, place);
      built.embed(formula_words().id(place, symbol), features);
    }
  }
  // In a complete formula token `node` is that node, and an OR turns its operands and its own value alike.
  for (std::size_t t = 0; t < program.instructions.size(); ++t) {
    const auto& instruction = program.instructions[t];
    std::vector<Feature> features{{swap_coordinate(at.program, instruction)}};
    add_code(features, at.wanted, instruction.node);
    built.embed(padding_words(n).id(static_cast<std::int64_t>(t), 0), features);
  }
}

model::Model PaddedFormula::build(std::int64_t n) const {
  const auto program = branching_program(depth_of(n));
  const auto instructions = static_cast<std::int64_t>(program.instructions.size());
  const Layout at(tree_nodes(depth_of(n)));
  auto config = stack_config(padding_words(n).first + instructions, at.stream.width(),
                             {LayerType::full_attention, LayerType::linear_attention},
                             2 * at.program.read.width, tree_nodes(depth_of(n)) + instructions + 3);
  const Lookup lookup{.key = at.place, .value = at.value, .output = at.found};
  configure_lookup(config, lookup);
  config.linear.key_heads = config.linear.value_heads = 2;
  config.linear.key_dim = kProgramKeyDim;
  config.linear.value_dim = kProgramValueDim;
  HandBuilt built(config, at.stream);
  set_words(built, at, n, program);
  set_lookup(built, 0, at.stream, lookup);
  set_query(built, 0, at.wanted);
  set_program_layer(built, 1, at.stream, at.program, at.found[1], program.true_place,
                    {id(answer_word(0)), id(answer_word(1))});
  return std::move(built).take();
}

std::vector<std::int32_t> PaddedFormula::alternatives(std::int64_t, std::int32_t token) const {
  const auto list = symbols();
  if (token == list[0] || token == list[1]) return {list[0], list[1]};
  if (token == list[2] || token == list[3]) return {list[2], list[3]};
  return {token};
}

}  // namespace

const Construction& barrington_formula() {
  static const PaddedFormula construction;
  return construction;
}

}  // namespace braid::lab

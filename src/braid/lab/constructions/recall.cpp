// Recall by one attention layer: the question carries the code of a place, which finds the bit there.
#include <algorithm>

#include "braid/lab/constructions/constructions.h"
#include "braid/lab/constructions/five_rows.h"
#include "braid/lab/constructions/lookup.h"

namespace braid::lab {
namespace {

struct Layout {
  explicit Layout(std::int64_t places) : bits(code_bits(places)) {}

  std::int64_t bits;
  Stream stream{16};
  Span place = stream.reserve(bits);   // of a bit: the code of its place
  Span wanted = stream.reserve(bits);  // of a question
  Span value = stream.reserve(2);      // of a bit: 0 or 1
  Span found = stream.reserve(2);      // what the question finds
};

class Recall final : public Construction {
 public:
  std::string_view name() const override { return "recall"; }
  std::string_view summary() const override {
    return "recall by one attention layer over the construction's own position codes";
  }
  const Problem& problem() const override { return problem_named("recall"); }
  model::Model build(std::int64_t n) const override;
  Reading read(std::int64_t n, const Example& example) const override {
    return read_placed_bits(problem(), placed(n), Construction::read(n, example));
  }
  std::vector<std::int32_t> alternatives(std::int64_t n, std::int32_t id) const override;

 private:
  PlacedWords placed(std::int64_t n) const {
    return {.first = problem().vocabulary_size(Form::tokens, {.n = n}), .words = 2};
  }
  std::int32_t question(std::int64_t place) const {
    return problem().vocabulary(Form::tokens).id(fmt::format("bits[{}]?", place));
  }
};

model::Model Recall::build(std::int64_t n) const {
  problem().check({.n = n});
  const Layout at(n);
  const auto& words = problem().vocabulary(Form::tokens);
  auto config =
      stack_config(placed(n).first + 2 * n, at.stream.width(), {model::LayerType::full_attention}, 1, n + 3);
  const Lookup lookup{.key = at.place, .value = at.value, .output = at.found};
  configure_lookup(config, lookup);
  HandBuilt built(config, at.stream);
  for (std::int64_t place = 0; place < n; ++place) {
    for (const std::int64_t bit : {0, 1}) {
      std::vector<Feature> features{{at.value[bit]}};
      add_code(features, at.place, place);
      built.embed(placed(n).id(place, bit), features);
    }
    std::vector<Feature> asked;
    add_code(asked, at.wanted, place);
    built.embed(question(place), asked);
  }
  set_lookup(built, 0, at.stream, lookup);
  set_query(built, 0, at.wanted);
  for (const std::int64_t bit : {0, 1}) built.logit(words.id(answer_word(bit)), at.found[bit]) = 1;
  return std::move(built).take();
}

std::vector<std::int32_t> Recall::alternatives(std::int64_t n, std::int32_t id) const {
  const auto& words = problem().vocabulary(Form::tokens);
  const std::vector<std::int32_t> bits{words.id("0"), words.id("1")};
  std::vector<std::int32_t> questions;
  for (std::int64_t place = 0; place < n; ++place) questions.push_back(question(place));
  for (const auto& list : {bits, questions}) {
    if (std::ranges::find(list, id) != list.end()) return list;
  }
  return {id};
}

}  // namespace

const Construction& attention_recall() {
  static const Recall construction;
  return construction;
}

}  // namespace braid::lab

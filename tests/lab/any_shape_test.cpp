// Formulas of any shape: addresses of nodes, texts that the problem's generator does not make, and what is
// refused.
#include <gtest/gtest.h>

#include <set>

#include "braid/backends/backends.h"
#include "braid/core/error.h"
#include "braid/lab/constructions/barrington.h"
#include "braid/lab/constructions/polish_parser.h"
#include "braid/lab/constructions/verify.h"

namespace braid::lab {
namespace {

const Construction& any_shape() { return construction_named("formula-any-shape"); }
std::int32_t id(std::string_view word) { return any_shape().problem().vocabulary(Form::tokens).id(word); }

// The formula's words one character each, with all the padding that a model of n leaves wants.
Example text_of(std::string_view formula, std::int64_t n) {
  Example example{.ids = {Vocabulary::bos}, .answers = {}, .code = {}};
  for (const char c : formula) example.ids.push_back(id(std::string(1, c)));
  const auto padded = any_shape().numbered(n, 0).ids.size() - 2;  // all but question and answer
  while (example.ids.size() < padded) example.ids.push_back(id("."));
  example.ids.push_back(id("a?"));
  example.answers.push_back(std::ssize(example.ids));
  example.ids.push_back(any_shape().problem().solve(Form::tokens, example.ids).back());
  return example;
}

// The models of formula-any-shape, reading given formulas.
class Given final : public Construction {
 public:
  explicit Given(std::vector<std::string> formulas) : formulas_(std::move(formulas)) {}
  std::string_view name() const override { return "given formulas"; }
  std::string_view summary() const override { return ""; }
  const Problem& problem() const override { return any_shape().problem(); }
  Example example(std::int64_t n, std::uint64_t, std::uint64_t index) const override {
    return text_of(formulas_[index], n);
  }
  model::Model build(std::int64_t n) const override { return any_shape().build(n); }
  Reading read(std::int64_t n, const Example& example) const override { return any_shape().read(n, example); }

 private:
  std::vector<std::string> formulas_;
};

// A formula of at most `length` words and no more gates of two operands above a leaf than `depth`.
void append_formula(std::string& to, std::size_t length, std::int64_t depth, Random& random) {
  while (length > 1 && random.below(2) == 0) to += '!', --length;
  if (length < 3 || depth == 0 || random.below(8) == 0) {
    to += "01"[random.below(2)];
    return;
  }
  to += "&|"[random.below(2)];
  const auto left = 1 + random.below(length - 2);
  append_formula(to, left, depth - 1, random);
  append_formula(to, length - 1 - left, depth - 1, random);
}

void expect_right(const std::vector<std::string>& formulas, std::int64_t n) {
  const Backend backend = make_backend("cpu", {.threads = 1}, Arithmetic::fast);
  const Given given(formulas);
  const auto v = verify(backend, given, given.build(n), n, n, {.count = std::ssize(formulas)});
  EXPECT_TRUE(v.all_right()) << v.first_wrong;
  EXPECT_GT(std::min({v.forward.margin, v.prefill.margin, v.steps.margin}), 0.9);
}

TEST(AnyShape, ReadsChainsOfNegationsAndFewerLeaves) {
  std::vector<std::string> formulas{
      "0", "1", "!1", "!!!!!!!!!!!!!1", "!!!!!!!!!!!!!0", "&!!!!!!!!!1!!0", "|0!!!&1!0"};
  Random random(5);
  for (int i = 0; i < 60; ++i) append_formula(formulas.emplace_back(), 14, 3, random);  // 4 leaves: 14 words
  expect_right(formulas, 4);
}

TEST(AnyShape, FullReadsDeepFormulasWithChains) {
  Random random(6);
  std::vector<std::string> formulas{"&1&1&1&10", "|||!10!!00", "&&&&111!01"};
  for (int i = 0; i < 200; ++i) append_formula(formulas.emplace_back(), 30, 4, random);
  expect_right(formulas, 8);
}

TEST(AnyShape, EveryNodeHasACodeOfItsOwn) {
  for (std::int64_t depth = 0; depth <= 6; ++depth) {
    std::set<std::vector<float>> codes;
    for (std::int64_t node = 0; node < tree_nodes(depth); ++node) {
      codes.insert(node_code(depth, node));
      EXPECT_EQ(std::ssize(node_code(depth, node)), address_bits(depth));
    }
    EXPECT_EQ(std::ssize(codes), tree_nodes(depth));
  }
}

TEST(AnyShape, ListsEveryFormula) {
  std::set<std::vector<std::int32_t>> texts;
  const auto count = any_shape().count(3, 10000);
  EXPECT_EQ(count, 4 + 64 + 2048);  // leaf and negation; gate, negation and two of these; …
  for (std::int64_t i = 0; i < count; ++i) texts.insert(any_shape().numbered(3, i).ids);
  EXPECT_EQ(std::ssize(texts), count);
}

TEST(AnyShape, RefusesWhatItsModelCannotRead) {
  EXPECT_NO_THROW(any_shape().read(4, text_of("&1&1&10", 4)));
  EXPECT_THROW(any_shape().read(5, text_of("&1&1&1&1&10", 5)), Error);  // depth 5
  EXPECT_THROW(any_shape().read(3, text_of("!!!!!!!!!!1", 3)), Error);  // 11 words, 10 may be read
  EXPECT_THROW(any_shape().read(4, text_of("&10", 3)), Error);          // too little padding
  EXPECT_THROW(any_shape().build(33), Error);
}

}  // namespace
}  // namespace braid::lab

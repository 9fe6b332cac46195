// State-based recall, both orders of one delta-rule layer and one attention layer (paper, theorem 1).
#include <algorithm>

#include "braid/lab/constructions/constructions.h"
#include "braid/lab/constructions/five_rows.h"
#include "braid/lab/constructions/lookup.h"

namespace braid::lab {
namespace {

using model::LayerType;

constexpr FiveRows kRows{.scratch = 10};
constexpr std::int64_t kKeyDim = 32;  // 21 in use; a width that fast kernels have

const Problem& the_problem() { return problem_named("state_based_recall"); }

PlacedWords placed_bits(std::int64_t n) {
  return {.first = the_problem().vocabulary_size(Form::tokens, {.n = n}), .words = 2};
}

std::int32_t word_id(const std::string& word) { return the_problem().vocabulary(Form::tokens).id(word); }

// What both orders share: the words, and how they are read.
class StateBasedRecall : public Construction {
 public:
  const Problem& problem() const override { return the_problem(); }
  Reading read(std::int64_t n, const Example& example) const override {
    return read_placed_bits(problem(), placed_bits(n), Construction::read(n, example));
  }
  std::vector<std::int32_t> alternatives(std::int64_t n, std::int32_t id) const override;
};

std::vector<std::int32_t> StateBasedRecall::alternatives(std::int64_t n, std::int32_t id) const {
  std::vector<std::vector<std::string>> lists{{"0", "1"}, {}, {}};
  for (const auto& pair : variable_pairs()) lists[1].push_back(swap_word(pair));
  for (std::int64_t v = 0; v < kVariables; ++v) lists[2].push_back(bit_question_word(v));
  for (std::int64_t v = 0; v < kVariables; ++v) {
    auto& pointers = lists.emplace_back();
    for (std::int64_t place = 0; place < n; ++place) pointers.push_back(pointer_word(v, place));
  }
  const auto& word = problem().vocabulary(Form::tokens).word(id);
  for (const auto& list : lists) {
    if (std::ranges::find(list, word) == list.end()) continue;
    std::vector<std::int32_t> ids;
    for (const auto& other : list) ids.push_back(word_id(other));
    return ids;
  }
  return {id};
}

// Coordinates that both orders have.
struct Layout {
  Layout(std::int64_t places, std::int64_t later) : bits(code_bits(places)), stream(16, later) {}

  std::int64_t bits;
  Stream stream;
  Span slots = stream.reserve(kVariables);  // of a pointer: its variable
  Span swaps = stream.reserve(10);
  Span ask = stream.reserve(kVariables);
  Span wanted = stream.reserve(bits);  // of a pointer: the code of its place
  Span place = stream.reserve(bits);   // of a bit
  Span value = stream.reserve(3);      // of a bit: 0 or 1; of <bos>: 2
  Span found = stream.reserve(3);      // by attention
};

// Tokens with the features that both orders give them, and `more` for swaps and questions.
void set_words(HandBuilt& built, const Layout& at, std::int64_t n, const std::vector<Feature>& more = {}) {
  const auto with = [&](std::int64_t coordinate) {
    auto features = more;
    features.push_back({coordinate});
    return features;
  };
  for (std::int64_t place = 0; place < n; ++place) {
    for (const std::int64_t bit : {0, 1}) {
      std::vector<Feature> features{{at.value[bit]}};
      add_code(features, at.place, place);
      built.embed(placed_bits(n).id(place, bit), features);
    }
    for (std::int64_t v = 0; v < kVariables; ++v) {
      std::vector<Feature> features{{at.slots[v]}};
      add_code(features, at.wanted, place);
      built.embed(word_id(pointer_word(v, place)), features);
    }
  }
  std::int64_t s = 0;
  for (const auto& pair : variable_pairs()) built.embed(word_id(swap_word(pair)), with(at.swaps[s++]));
  for (std::int64_t v = 0; v < kVariables; ++v) built.embed(word_id(bit_question_word(v)), with(at.ask[v]));
}

// Keys of loads and swaps, queries of questions, and the write strength of swaps, for every value head.
void set_five_rows(const DeltaMatrices& delta, const Layout& at) {
  std::int64_t s = 0;
  for (const auto& pair : variable_pairs()) {
    FiveRows::swap(delta.key, 0, at.swaps[s], pair);
    for (std::int64_t head = 0; head < delta.write.rows(); ++head) delta.write(head, at.swaps[s]) = kSaturate;
    ++s;
  }
  for (std::int64_t v = 0; v < kVariables; ++v) {
    kRows.load(delta.key, 0, at.slots[v], v);
    kRows.read(delta.query, 0, at.ask[v], v);
    for (std::int64_t i = 0; i < delta.gate.rows(); ++i) delta.gate(i, at.ask[v]) = kKey;
  }
}

model::ModelConfig config_of(const Layout& at, std::int64_t n, std::vector<LayerType> layers,
                             std::int64_t hidden) {
  auto config =
      stack_config(placed_bits(n).first + 2 * n, at.stream.width(), std::move(layers), hidden, 2 * n + 8);
  configure_lookup(config, {.key = at.place, .value = at.value, .output = at.found});
  config.linear.key_heads = 1;
  config.linear.key_dim = kKeyDim;
  return config;
}

// The state holds the five pointers; attention looks up the one that the question asks for.
class DeltaThenAttention final : public StateBasedRecall {
 public:
  std::string_view name() const override { return "state-based-recall-gdn-attention"; }
  std::string_view summary() const override {
    return "theorem 1: the delta rule permutes five pointers, attention follows the one asked for";
  }
  model::Model build(std::int64_t n) const override;
};

model::Model DeltaThenAttention::build(std::int64_t n) const {
  the_problem().check({.n = n});
  Layout at(n, 0);
  // A code bit is two values that are never negative: the first set for -1, the second for +1.
  const Span read = at.stream.reserve(2 * at.bits), pointer = at.stream.reserve(2 * at.bits);
  auto config = config_of(at, n, {LayerType::linear_attention, LayerType::full_attention}, 2 * read.width);
  config.linear.value_heads = 1;
  config.linear.value_dim = (read.width + 15) / 16 * 16;
  HandBuilt built(config, at.stream);
  set_words(built, at, n);

  const auto delta = built.delta(0);
  set_five_rows(delta, at);
  for (std::int64_t bit = 0; bit < at.bits; ++bit) {
    for (const std::int64_t set : {0, 1}) {
      const auto i = 2 * bit + set;
      for (std::int64_t v = 0; v < kVariables; ++v) delta.value(i, at.slots[v]) = kWrite / 2;
      delta.value(i, at.wanted[bit]) = set == 1 ? kWrite / 2 : -kWrite / 2;
      delta.output(read[i], i) = at.stream.amplitude() / 8;
    }
  }
  add_squares(built.mlp(0), 0, pointer, read, at.stream.amplitude());

  set_lookup(built, 1, at.stream, {.key = at.place, .value = at.value, .output = at.found});
  const auto attention = built.attention(1);
  for (std::int64_t bit = 0; bit < at.bits; ++bit) {
    attention.query(bit, pointer[2 * bit + 1]) = 1;
    attention.query(bit, pointer[2 * bit]) = -1;
  }
  for (const std::int64_t bit : {0, 1}) built.logit(word_id(answer_word(bit)), at.found[bit]) = 1;
  return std::move(built).take();
}

// Attention finds the bit under each pointer; the state holds the five bits. Value head b holds a mark in the
// rows of the variables whose bit is b. What has nothing to find, swaps and questions, looks at <bos>.
class AttentionThenDelta final : public StateBasedRecall {
 public:
  std::string_view name() const override { return "state-based-recall-attention-gdn"; }
  std::string_view summary() const override {
    return "theorem 1: attention finds the bit under each pointer, the delta rule permutes the five bits";
  }
  model::Model build(std::int64_t n) const override;
};

model::Model AttentionThenDelta::build(std::int64_t n) const {
  the_problem().check({.n = n});
  const std::int64_t sink = n;  // the place of <bos>
  Layout at(n + 1, 1);
  const Span read = at.stream.reserve(2), answer = at.stream.reserve(2);
  auto config = config_of(at, n, {LayerType::full_attention, LayerType::linear_attention}, 2 * read.width);
  config.linear.value_heads = 2;
  config.linear.value_dim = 16;  // 1 in use
  HandBuilt built(config, at.stream);
  std::vector<Feature> to_sink, begin{{at.value[2]}};
  add_code(to_sink, at.wanted, sink);
  add_code(begin, at.place, sink);
  set_words(built, at, n, to_sink);
  built.embed(Vocabulary::bos, begin);

  set_lookup(built, 0, at.stream, {.key = at.place, .value = at.value, .output = at.found});
  set_query(built, 0, at.wanted);

  const auto delta = built.delta(1);
  set_five_rows(delta, at);
  for (const std::int64_t bit : {0, 1}) {
    const auto value = bit * config.linear.value_dim;
    delta.write(bit, at.found[bit]) = kSaturate;  // beta = 1 where the bit is `bit`, else 0
    for (std::int64_t v = 0; v < kVariables; ++v) {
      delta.write(bit, at.slots[v]) = -kSaturate;
      delta.value(value, at.slots[v]) = kWrite;
    }
    delta.output(read[bit], value) = at.stream.amplitude() / 8;
    built.logit(word_id(answer_word(bit)), answer[bit]) = 1;
  }
  add_squares(built.mlp(1), 0, answer, read, at.stream.amplitude());
  return std::move(built).take();
}

}  // namespace

const Construction& delta_then_attention() {
  static const DeltaThenAttention construction;
  return construction;
}

const Construction& attention_then_delta() {
  static const AttentionThenDelta construction;
  return construction;
}

}  // namespace braid::lab

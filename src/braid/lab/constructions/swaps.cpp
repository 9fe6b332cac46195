// Swap tracking by one delta-rule layer: head h follows object h, each swap is one reflection.
#include <algorithm>
#include <array>

#include "braid/lab/constructions/constructions.h"
#include "braid/lab/constructions/five_rows.h"

namespace braid::lab {
namespace {

enum class Swap : std::uint8_t {
  sum,         // reflection along (e_i + e_j) / √2
  difference,  // along (e_i - e_j) / √2
  projection,  // along the sum, beta = 1: the eigenvalue is 0 instead of -1
};

constexpr FiveRows kRows{.scratch = 2};
constexpr std::int64_t kKeyDim = 16, kValueDim = 16;  // 13 and 1 in use; widths that fast kernels have

// Where things lie in the residual stream.
struct Layout {
  Stream stream{4};
  Span start = stream.reserve(1);            // <bos>
  Span swaps = stream.reserve(10);           // one for each pair
  Span ask = stream.reserve(kVariables);     // one for each question
  Span found = stream.reserve(kVariables);   // ±: the object that the delta rule finds there
  Span answer = stream.reserve(kVariables);  // its square
};

void set_words(HandBuilt& built, const Layout& at) {
  const auto& words = problem_named("swaps").vocabulary(Form::tokens);
  built.embed(Vocabulary::bos, {{at.start[0]}});
  std::int64_t s = 0;
  for (const auto& pair : variable_pairs()) built.embed(words.id(swap_word(pair)), {{at.swaps[s++]}});
  for (std::int64_t v = 0; v < kVariables; ++v) {
    built.embed(words.id(question_word(v)), {{at.ask[v]}});
    built.logit(words.id(answer_word(v)), at.answer[v]) = 1;
    // Where nothing is left of the state, so that every logit would be 0, it guesses.
    built.logit(words.id(answer_word(0)), at.ask[v]) = 1e-9f;
  }
}

void set_head(const DeltaMatrices& delta, const Layout& at, std::int64_t head, Swap kind) {
  const auto row = head * kKeyDim, value = head * kValueDim;
  kRows.load(delta.key, row, at.start[0], head);
  delta.value(value, at.start[0]) = kWrite;
  delta.write(head, at.start[0]) = kind == Swap::projection ? kSaturate : 0;  // beta = 1
  std::int64_t s = 0;
  for (const auto& pair : variable_pairs()) {
    const auto set = kind == Swap::difference ? FiveRows::swap_by_difference : FiveRows::swap;
    set(delta.key, row, at.swaps[s], pair);
    delta.write(head, at.swaps[s++]) = kSaturate;
  }
  for (std::int64_t v = 0; v < kVariables; ++v) {
    kRows.read(delta.query, row, at.ask[v], v);
    delta.gate(value, at.ask[v]) = kKey;
  }
  delta.output(at.found[head], value) = at.stream.amplitude() / 8;
}

// For texts of at most `longest` tokens in the words of the problem swaps.
model::Model swap_model(std::int64_t longest, Swap kind) {
  const Layout at;
  auto config = stack_config(problem_named("swaps").vocabulary(Form::tokens).size(), at.stream.width(),
                             {model::LayerType::linear_attention}, 2 * kVariables, longest);
  config.linear.key_heads = config.linear.value_heads = kVariables;
  config.linear.key_dim = kKeyDim;
  config.linear.value_dim = kValueDim;
  config.linear.negative_eigenvalues = kind != Swap::projection;
  HandBuilt built(config, at.stream);
  set_words(built, at);
  for (std::int64_t head = 0; head < kVariables; ++head) set_head(built.delta(0), at, head, kind);
  add_squares(built.mlp(0), 0, at.answer, at.found, at.stream.amplitude());
  return std::move(built).take();
}

std::vector<std::int32_t> ids_of(const Vocabulary& words, std::vector<std::string> list) {
  std::vector<std::int32_t> ids;
  for (const auto& word : list) ids.push_back(words.id(word));
  return ids;
}

std::vector<std::int32_t> questions(const Vocabulary& words) {
  std::vector<std::string> list;
  for (std::int64_t v = 0; v < kVariables; ++v) list.push_back(question_word(v));
  return ids_of(words, list);
}

class SwapTracker final : public Construction {
 public:
  SwapTracker(std::string_view name, Swap kind, std::string_view summary)
      : name_(name), kind_(kind), summary_(summary) {}

  std::string_view name() const override { return name_; }
  std::string_view summary() const override { return summary_; }
  const Problem& problem() const override { return problem_named("swaps"); }
  Promise promise() const override {
    return kind_ == Swap::projection ? Promise::counterexample : Promise::exact;
  }
  model::Model build(std::int64_t n) const override { return swap_model(3 * n + 3, kind_); }
  std::vector<std::int32_t> alternatives(std::int64_t, std::int32_t id) const override {
    const auto& words = problem().vocabulary(Form::tokens);
    std::vector<std::string> swaps;
    for (const auto& pair : variable_pairs()) swaps.push_back(swap_word(pair));
    for (const auto& list : {ids_of(words, swaps), questions(words)}) {
      if (std::ranges::find(list, id) != list.end()) return list;
    }
    return {id};
  }

 private:
  std::string_view name_;
  Swap kind_;
  std::string_view summary_;
};

// The word problem of A5 in the swap tracker's words: an element of the group is at most four swaps. A
// delta-rule token is one reflection, so each element takes four tokens, <pad> where fewer do.
class A5Words final : public Construction {
 public:
  static constexpr std::int64_t kSwapsOfElement = 4;

  std::string_view name() const override { return "a5"; }
  std::string_view summary() const override {
    return "the word problem of A5 by the swap tracker, each element written as four swaps";
  }
  const Problem& problem() const override { return problem_named("a5"); }
  model::Model build(std::int64_t n) const override {
    return swap_model((kSwapsOfElement + 2) * n + 3, Swap::sum);
  }
  Reading read(std::int64_t n, const Example& example) const override;
  std::vector<std::int32_t> alternatives(std::int64_t, std::int32_t id) const override;

 private:
  static bool is_element(const std::string& word) { return word.size() == kVariables && word[0] != '<'; }
  static std::vector<std::int32_t> swaps_of(std::string element);
};

// Element "bcade" makes b's value a's, and so on.
std::vector<std::int32_t> A5Words::swaps_of(std::string element) {
  const auto& words = problem_named("swaps").vocabulary(Form::tokens);
  std::string now = "abcde";
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < now.size(); ++i) {
    const auto j = now.find(element[i]);
    require(j != std::string::npos && j >= i, "'{}' is not an element of A5", element);
    if (j == i) continue;
    ids.push_back(words.id(swap_word({static_cast<std::int64_t>(i), static_cast<std::int64_t>(j)})));
    std::swap(now[i], now[j]);
  }
  ids.resize(kSwapsOfElement, Vocabulary::pad);
  return ids;
}

Reading A5Words::read(std::int64_t, const Example& example) const {
  const auto& words = problem().vocabulary(Form::tokens);
  Reading reading;
  std::size_t answer = 0;
  for (std::size_t i = 0; i + 1 < example.ids.size(); ++i) {
    const auto& word = words.word(example.ids[i]);
    if (is_element(word)) {
      const auto swaps = swaps_of(word);
      reading.ids.insert(reading.ids.end(), swaps.begin(), swaps.end());
    } else {
      reading.ids.push_back(problem_named("swaps").vocabulary(Form::tokens).id(word));
    }
    if (answer < example.answers.size() && example.answers[answer] == static_cast<std::int64_t>(i) + 1) {
      reading.predicts.push_back(static_cast<std::int64_t>(reading.ids.size()) - 1);
      ++answer;
    }
  }
  return reading;
}

std::vector<std::int32_t> A5Words::alternatives(std::int64_t, std::int32_t id) const {
  const auto& words = problem().vocabulary(Form::tokens);
  std::vector<std::int32_t> elements;
  for (std::int32_t i = 0; i < words.size(); ++i) {
    if (is_element(words.word(i))) elements.push_back(i);
  }
  for (const auto& list : {elements, questions(words)}) {
    if (std::ranges::find(list, id) != list.end()) return list;
  }
  return {id};
}

}  // namespace

const Construction& swap_tracker() {
  static const SwapTracker construction(
      "swaps", Swap::sum, "swap tracking by one delta-rule layer, each swap one reflection (beta = 2)");
  return construction;
}

const Construction& literal_swap_tracker() {
  static const SwapTracker construction(
      "swaps-literal", Swap::difference,
      "the same along e_i - e_j, as the paper has it: short keys, so the state shrinks a little each swap");
  return construction;
}

const Construction& positive_swap_tracker() {
  static const SwapTracker construction(
      "swaps-positive", Swap::projection,
      "the same with beta held to 1, no negative eigenvalue: each swap is a projection, which forgets");
  return construction;
}

const Construction& a5_words() {
  static const A5Words construction;
  return construction;
}

}  // namespace braid::lab

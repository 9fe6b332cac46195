#include "braid/lab/constructions/construction.h"

#include <array>

#include "braid/core/error.h"
#include "braid/io/quote.h"
#include "braid/lab/constructions/constructions.h"

namespace braid::lab {

Example Construction::example(std::int64_t n, std::uint64_t seed, std::uint64_t index) const {
  return problem().make(Form::tokens, {.n = n}, seed, index);
}

Reading Construction::read(std::int64_t, const Example& example) const {
  Reading reading{.ids = example.ids, .predicts = example.answers};
  for (auto& at : reading.predicts) --at;
  reading.ids.pop_back();  // the last answer: nothing is predicted behind it
  return reading;
}

std::span<const Construction* const> constructions() {
  static const std::array all = {
      &swap_tracker(),     &literal_swap_tracker(), &positive_swap_tracker(), &a5_words(),
      &attention_recall(), &delta_then_attention(), &attention_then_delta(),  &barrington_formula(),
      &any_shape_formula()};
  return all;
}

const Construction& construction_named(std::string_view name) {
  std::string names;
  for (const auto* c : constructions()) {
    if (c->name() == name) return *c;
    names += (names.empty() ? "" : ", ") + std::string(c->name());
  }
  fail("there is no construction {}: they are {}", io::in_quotes(name), names);
}

}  // namespace braid::lab

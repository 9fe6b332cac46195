// Recall by hard attention: places have binary codes of ± 1, and a query that carries a place's code finds
// that place alone. The model encodes no positions: the bit b at place p has an id of its own, whose
// embedding is the sum of b's and p's, as learned position embeddings would make it.
#pragma once
#include "braid/lab/constructions/construction.h"
#include "braid/lab/constructions/hand_built.h"

namespace braid::lab {

// Bits of the codes of `places` places, at least 1.
std::int64_t code_bits(std::int64_t places);
// +1 or -1: bit `bit` of the code of `place`.
float code_sign(std::int64_t place, std::int64_t bit);
// The code of `place` as features, one for each coordinate of `at`.
void add_code(std::vector<Feature>& features, Span at, std::int64_t place);

// Ids of words at places: behind the problem's own, `words` for each place.
struct PlacedWords {
  std::int64_t first;  // id
  std::int64_t words;
  std::int32_t id(std::int64_t place, std::int64_t word) const {
    return static_cast<std::int32_t>(first + place * words + word);
  }
};
// The default reading, but the bits 0 and 1 that follow <bos> are placed.
Reading read_placed_bits(const Problem& problem, const PlacedWords& placed, Reading reading);

// Scores of a query with a place's code are kSharpness · √bits there and 2 · kSharpness / √bits less at the
// nearest other place, so that its weight is e^-80 with 10 bits. Tokens without a code score 0.
inline constexpr float kSharpness = 128;

// One head: compares codes, reads `value`, one entry of which is set, and writes it to `output`.
struct Lookup {
  Span key, value, output;
};
void configure_lookup(model::ModelConfig& config, const Lookup& lookup);
// Sets layer `layer`, all but the query, whose row i meets the key's coordinate i. What is found has the
// stream's amplitude, so that the rule of hand_built.h goes on holding.
void set_lookup(HandBuilt& built, std::size_t layer, const Stream& stream, const Lookup& lookup);
// The query is the code in these coordinates.
void set_query(HandBuilt& built, std::size_t layer, Span code);

}  // namespace braid::lab

#include "braid/lab/constructions/lookup.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace braid::lab {

std::int64_t code_bits(std::int64_t places) {
  return std::max<std::int64_t>(1, std::bit_width(static_cast<std::uint64_t>(places - 1)));
}

float code_sign(std::int64_t place, std::int64_t bit) { return (place >> bit & 1) != 0 ? 1.0f : -1.0f; }

void add_code(std::vector<Feature>& features, Span at, std::int64_t place) {
  require(place >= 0 && place < (std::int64_t{1} << at.width), "place {} does not fit {} bits", place,
          at.width);
  for (std::int64_t bit = 0; bit < at.width; ++bit) features.push_back({at[bit], code_sign(place, bit)});
}

Reading read_placed_bits(const Problem& problem, const PlacedWords& placed, Reading reading) {
  const auto& words = problem.vocabulary(Form::tokens);
  const auto zero = words.id("0"), one = words.id("1");
  for (std::size_t i = 1; i < reading.ids.size(); ++i) {
    auto& id = reading.ids[i];
    if (id != zero && id != one) break;
    id = placed.id(static_cast<std::int64_t>(i) - 1, id == one ? 1 : 0);
  }
  return reading;
}

void configure_lookup(model::ModelConfig& config, const Lookup& lookup) {
  config.attention.heads = config.attention.kv_heads = 1;
  // Widths that attention kernels have.
  config.attention.head_dim = std::max<std::int64_t>(16, std::max(lookup.key.width, lookup.value.width));
}

void set_lookup(HandBuilt& built, std::size_t layer, const Stream& stream, const Lookup& lookup) {
  const auto attention = built.attention(layer);
  for (std::int64_t i = 0; i < lookup.key.width; ++i) attention.key(i, lookup.key[i]) = 1;
  for (std::int64_t i = 0; i < lookup.value.width; ++i) {
    attention.value(i, lookup.value[i]) = 1;
    attention.output(lookup.output[i], i) = 1;
  }
  built.sharpen(layer, kSharpness);
  // The norm turns one entry into √width.
  built.set_mixer_norm(layer, stream.amplitude() / std::sqrt(static_cast<float>(stream.width())));
}

void set_query(HandBuilt& built, std::size_t layer, Span code) {
  const auto attention = built.attention(layer);
  for (std::int64_t i = 0; i < code.width; ++i) attention.query(i, code[i]) = 1;
}

}  // namespace braid::lab

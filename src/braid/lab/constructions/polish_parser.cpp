#include "braid/lab/constructions/polish_parser.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "braid/lab/constructions/five_rows.h"

namespace braid::lab {
namespace {

using std::numbers::pi;

constexpr std::int64_t kEmpty = kParserKeyDim - 1;  // a row that is never written
constexpr float kLeast = 1.0f / 8192;               // of a query's entries that read; the empty row has kKey
constexpr float kGain = 1024;                       // thresholds of feed-forwards: SiLU is 0 or the identity

// Heads of layer 0: the two coordinates of the angle, the token before. Of layer 1: slots, negations.
constexpr std::int64_t kFirst = 0, kSecond = 1, kBefore = 2, kSlots = 0, kNegations = 1;

std::int64_t key_row(std::int64_t head, std::int64_t row) { return head * kParserKeyDim + row; }
std::int64_t value_row(std::int64_t head, std::int64_t column) { return head * kParserValueDim + column; }

// The angle that stands for slot h = 1, 2 …; slot 1 is where <bos> puts the mark.
double step_angle(std::int64_t depth) {
  return 2 * pi / static_cast<double>(std::max<std::int64_t>(5, depth + 2));
}
double slot_angle(std::int64_t depth, std::int64_t h) {
  return -pi / 2 + step_angle(depth) * static_cast<double>(h - 1);
}

// Weight of W_o that makes an entry of a state, read by kLeast and let through by a gate of kKey, an entry of
// the stream's amplitude. The output norm is its epsilon's: a factor.
float read_out(const Stream& stream, double entry) {
  const double query = kLeast / (1 + std::exp(-static_cast<double>(kLeast))) / kKey;
  const double y = entry * query / std::sqrt(static_cast<double>(kParserKeyDim));
  return static_cast<float>(stream.amplitude() / (y / std::sqrt(model::kOutputNormEpsilon) * kKey));
}

void read_row(const DeltaMatrices& delta, std::int64_t head, std::int64_t row, std::int64_t coordinate) {
  delta.query(key_row(head, row), coordinate) = kLeast;
  delta.query(key_row(head, kEmpty), coordinate) = kKey;
}

// Heads kFirst and kSecond: the plane, and a reflection of it by each token. A reflection turns the angle
// round, so that behind an odd number of tokens -x stands for x.
void set_angle(HandBuilt& built, const Stream& stream, const ParserSpans& at) {
  const auto delta = built.delta(0);
  constexpr double kLong = 8 * kKey;  // the shortest coordinate is then above 32 too
  const double keys[] = {pi / 4 + step_angle(at.depth) / 2, pi / 4 - step_angle(at.depth) / 2, pi / 4};
  const float out = read_out(stream, 2 * kWrite) / std::numbers::sqrt2_v<float>;
  for (const auto head : {kFirst, kSecond}) {
    for (std::int64_t axis = 0; axis < at.axis.width; ++axis) {
      delta.key(key_row(head, 0), at.axis[axis]) = static_cast<float>(kLong * std::cos(keys[axis]));
      delta.key(key_row(head, 1), at.axis[axis]) = static_cast<float>(kLong * std::sin(keys[axis]));
    }
    built.look_back(0, kParserHeads * kParserKeyDim + key_row(head, 0), 2);
    delta.write(head, at.symbol[0]) = kSaturate;
    read_row(delta, head, head == kFirst ? 0 : 1, at.symbol[0]);
    // cos x = (second - first) / √2, sin x = -(first + second) / √2, of the opposite sign at even places.
    const Span lets_through[] = {at.symbol, {at.parity[1], 1}, {at.parity[0], 1}};
    const float sign[] = {head == kFirst ? -out : out, -out, out};
    for (std::int64_t i = 0; i < 3; ++i) {
      const auto value = value_row(head, i);
      delta.value(value, at.start[0]) = kWrite;
      delta.gate(value, lets_through[i][0]) = kKey;
      delta.output(at.angle[i == 0 ? 0 : 1], value) = sign[i];
    }
  }
}

void set_previous(HandBuilt& built, const Stream& stream, const ParserSpans& at) {
  const auto delta = built.delta(0);
  delta.key(key_row(kBefore, 0), at.symbol[0]) = kKey;  // beta = 1: what was there is forgotten
  read_row(delta, kBefore, 0, at.symbol[0]);
  for (std::int64_t i = 0; i < at.kind.width; ++i) {
    const auto value = value_row(kBefore, i);
    delta.value(value, at.kind[i]) = kWrite;
    delta.gate(value, at.symbol[0]) = kKey;
    delta.output(at.previous[i], value) = read_out(stream, kWrite);
  }
}

// A unit for each slot: above 0 for its angle alone.
void set_slots(const MlpMatrices& mlp, const Stream& stream, const ParserSpans& at, double scale) {
  const double threshold = (1 + std::cos(step_angle(at.depth))) / 2;
  for (std::int64_t s = 0; s < at.slot.width; ++s) {
    const auto angle = slot_angle(at.depth, s + 1);
    mlp.gate(s, at.angle[0]) = static_cast<float>(kGain * std::cos(angle));
    mlp.gate(s, at.angle[1]) = static_cast<float>(kGain * std::sin(angle));
    mlp.gate(s, at.symbol[0]) = static_cast<float>(-kGain * threshold);
    mlp.up(s, at.symbol[0]) = 1;
    mlp.down(at.slot[s], s) =
        static_cast<float>(stream.amplitude() / (kGain * (1 - threshold) * scale * scale));
  }
}

// Row s and column s hold 2^-k_s.
void set_turns(const DeltaMatrices& delta, const Stream& stream, const ParserSpans& at) {
  const float out = read_out(stream, kWrite);
  for (std::int64_t s = 0; s < at.slot.width; ++s) {
    const auto value = value_row(kSlots, s);
    delta.key(key_row(kSlots, s), at.slot[s]) = kKey;
    delta.value(value, at.slot[s]) = kWrite;
    delta.value(value, at.previous[1]) = delta.value(value, at.previous[2]) = -kWrite - 128;  // SiLU: 0
    read_row(delta, kSlots, s, at.symbol[0]);
    for (std::int64_t h = s; h < at.slot.width; ++h) delta.gate(value, at.slot[h]) = kKey;
    delta.output(at.turns[s], value) = out;
  }
  delta.write(kSlots, at.previous[1]) = -std::log(3.0f);  // beta = 1/2: one more turn to the right
  delta.write(kSlots, at.previous[2]) = -kSaturate;       // beta = 0; behind what opens a slot it is 1
}

void set_negations(const DeltaMatrices& delta, const Stream& stream, const ParserSpans& at) {
  const auto value = value_row(kNegations, 0);
  delta.key(key_row(kNegations, 0), at.symbol[0]) = kKey;
  for (const std::int64_t node : {0, 1}) delta.value(value, at.previous[node]) = kWrite;
  delta.write(kNegations, at.previous[2]) = kSaturate;  // beta = 2 and no value: the sign turns
  read_row(delta, kNegations, 0, at.symbol[0]);
  delta.gate(value, at.symbol[0]) = kKey;
  delta.output(at.negated[0], value) = read_out(stream, kWrite);
}

// Everything that these units give is a multiple of (norm of the entry)², a size that the norm makes
// differ between tokens. Addresses and outputs differ in nothing else.
class NodeUnits {
 public:
  NodeUnits(const MlpMatrices& mlp, const Stream& stream, const ParserSpans& at)
      : mlp_(mlp), at_(at), strength_(stream.amplitude() / 16) {}

  // +1 where turns[slot] ≥ 2^-k, else -1; 0 where there is no node.
  void address_bit(std::int64_t bit, std::int64_t slot, std::int64_t k) {
    const float least = std::ldexp(1.0f, -static_cast<int>(k));
    constexpr float kHalfWidth = 0.1f;
    for (const float side : {1.0f, -1.0f}) {
      const auto unit = node_unit();
      mlp_.gate(unit, at_.turns[slot]) = kGain / least;
      mlp_.gate(unit, at_.symbol[0]) = kGain * (side * kHalfWidth - 0.7f);
      mlp_.down(at_.address[bit], unit) = side * strength_ / (kHalfWidth * kGain);
    }
  }
  void baseline() {
    const auto unit = node_unit();
    for (const std::int64_t i : {0, 1}) mlp_.gate(unit, at_.node[i]) = kGain;
    for (std::int64_t bit = 0; bit < at_.address.width; ++bit)
      mlp_.down(at_.address[bit], unit) = -strength_ / kGain;
    for (const std::int64_t i : {0, 1}) mlp_.down(at_.output[i], unit) = strength_ / kGain;
  }
  // ± (is 1 or |) (is not negated), for output[1] and output[0].
  void outputs() {
    for (const float sign : {1.0f, -1.0f}) {
      for (const std::int64_t i : {0, 1}) mlp_.gate(unit_, at_.node[i]) = i == 0 ? -sign : sign;
      mlp_.up(unit_, at_.negated[0]) = sign;
      mlp_.down(at_.output[1], unit_) = strength_;
      mlp_.down(at_.output[0], unit_++) = -strength_;
    }
  }

 private:
  std::int64_t node_unit() {
    for (const std::int64_t i : {0, 1}) mlp_.up(unit_, at_.node[i]) = 1;
    return unit_++;
  }
  const MlpMatrices& mlp_;
  const ParserSpans& at_;
  float strength_;
  std::int64_t unit_ = 0;
};

}  // namespace

ParserSpans::ParserSpans(Stream& stream, std::int64_t tree_depth)
    : depth(tree_depth),
      start(stream.reserve(1)),
      kind(stream.reserve(3)),
      axis(stream.reserve(3)),
      parity(stream.reserve(2)),
      symbol(stream.reserve(1)),
      node(stream.reserve(2)),
      operands(stream.reserve(2)),
      angle(stream.reserve(2)),
      previous(stream.reserve(3)),
      slot(stream.reserve(tree_depth + 1)),
      turns(stream.reserve(tree_depth + 1)),
      negated(stream.reserve(1)),
      address(stream.reserve(address_bits(tree_depth))),
      output(stream.reserve(2)) {}

std::int64_t parser_hidden(std::int64_t depth) { return 2 * address_bits(depth) + 3; }

std::vector<float> node_code(std::int64_t depth, std::int64_t node) {
  std::vector<std::int64_t> turns{0};
  for (auto below = depth; node > 0; --below) {
    const auto subtree = (std::int64_t{1} << below) - 1;  // nodes of one operand
    const bool right = node > subtree;
    node -= 1 + (right ? subtree : 0);
    if (right) {
      ++turns.back();
    } else {
      turns.push_back(0);
    }
  }
  std::vector<float> code;
  for (std::size_t s = 0; s <= static_cast<std::size_t>(depth); ++s) {
    for (std::int64_t k = 0; k + static_cast<std::int64_t>(s) <= depth; ++k) {
      code.push_back(s < turns.size() && turns[s] <= k ? 1.0f : -1.0f);
    }
  }
  return code;
}

std::vector<Feature> begin_features(const ParserSpans& at) {
  return {{at.start[0]}, {at.kind[0]}, {at.axis[2]}};
}

std::vector<Feature> symbol_features(const ParserSpans& at, Symbol symbol, std::int64_t parity) {
  std::vector<Feature> features{{at.symbol[0]}, {at.parity[parity]}};
  if (symbol == Symbol::negation) {
    features.insert(features.end(), {{at.kind[2]}, {at.axis[2]}});
    return features;
  }
  const bool leaf = symbol == Symbol::zero || symbol == Symbol::one;
  const bool one = symbol == Symbol::one || symbol == Symbol::either;
  // At odd places x stands for itself: a gate's x becomes -(x + step), by the axis at -step / 2.
  const bool forward = leaf == (parity == 1);
  const Feature rest[] = {{at.kind[leaf ? 1 : 0]},
                          {at.axis[forward ? 0 : 1]},
                          {at.node[one ? 1 : 0]},
                          {at.operands[symbol == Symbol::either ? 1 : 0]}};
  features.insert(features.end(), std::begin(rest), std::end(rest));
  return features;
}

void set_parser(HandBuilt& built, const Stream& stream, const ParserSpans& at) {
  const auto width = static_cast<double>(stream.width());
  // Squares of a token's entries, in units of the amplitude's.
  const auto embedded = static_cast<double>(stream.embedded());
  const double after_layer_0 = embedded + 3;  // the angle, the token before, the slot
  const auto read_entries_as_one = [&](std::size_t layer, double entries) {
    built.set_mixer_norm(layer, static_cast<float>(std::sqrt(entries / width)));
  };
  read_entries_as_one(0, embedded);
  set_angle(built, stream, at);
  set_previous(built, stream, at);
  built.look_back(0, 2 * kParserHeads * kParserKeyDim, kParserHeads * kParserValueDim);  // all values
  set_slots(built.mlp(0), stream, at, std::sqrt(width / (embedded + 2)));

  read_entries_as_one(1, after_layer_0);
  set_turns(built.delta(1), stream, at);
  set_negations(built.delta(1), stream, at);
  const auto mlp = built.mlp(1);
  NodeUnits units(mlp, stream, at);
  std::int64_t bit = 0;
  for (std::int64_t slot = 0; slot <= at.depth; ++slot) {
    for (std::int64_t k = 0; k + slot <= at.depth; ++k) units.address_bit(bit++, slot, k);
  }
  units.baseline();
  units.outputs();
}

}  // namespace braid::lab

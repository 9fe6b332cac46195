// Two delta-rule layers that parse Polish notation: behind them every token of a formula says which node of
// the complete tree of some depth it is. docs/theory.md derives them.
//
// Slots are the open operands, 1 … h; a token fills the last one. A gate opens one more, a leaf closes its
// own. The way from the root is R^k1 L R^k2 L … R^kh: one L for each further slot, and k_s turns to the right
// since slot s was opened. So (h; k1 … kh) is the node, and no more than h - 1 + Σ k = its depth.
#pragma once
#include "braid/lab/constructions/hand_built.h"

namespace braid::lab {

enum class Symbol : std::uint8_t { zero, one, both, either, negation };  // 0 1 & | !
inline constexpr std::int64_t kSymbols = 5;

struct ParserSpans {
  ParserSpans(Stream& stream, std::int64_t depth);

  std::int64_t depth;
  // Of the embedding. A token's parity is that of its position, which <bos> has as 0.
  Span start;     // <bos>
  Span kind;      // opens a slot: a gate or <bos>; closes one: a leaf; neither: a negation
  Span axis;      // of the reflection that the token is: two, by kind and parity, and that of a negation
  Span parity;    // even, odd
  Span symbol;    // a formula's token
  Span node;      // 0 or &; 1 or |; no entry: a negation
  Span operands;  // of a node: are not turned; are
  // Of layer 0.
  Span angle;     // cos, sin of the angle that stands for h
  Span previous;  // the kind of the token before
  Span slot;      // h, one-hot
  // Of layer 1.
  Span turns;    // 2^-k_s where s ≤ h, else 0
  Span negated;  // -1 behind an odd number of negations, else 1
  Span address;  // of a node: node_code, in entries of one size
  Span output;   // of a node: what it gives is not turned; is. The other of the two is 0 but for rounding
};

inline constexpr std::int64_t kParserHeads = 3, kParserKeyDim = 16, kParserValueDim = 16;
std::int64_t parser_hidden(std::int64_t depth);  // units of the feed-forwards

// Bits of an address: k_s ≤ k for each slot s and k = 0 … depth + 1 - s; false where there is no slot s.
constexpr std::int64_t address_bits(std::int64_t depth) { return (depth + 1) * (depth + 2) / 2; }
// ±1 for each bit. `node` is numbered in Polish notation of the complete tree.
std::vector<float> node_code(std::int64_t depth, std::int64_t node);

std::vector<Feature> begin_features(const ParserSpans& at);  // of <bos>
std::vector<Feature> symbol_features(const ParserSpans& at, Symbol symbol, std::int64_t parity);

// Layers 0 and 1, both Gated DeltaNet with kParserHeads heads.
void set_parser(HandBuilt& built, const Stream& stream, const ParserSpans& at);

}  // namespace braid::lab

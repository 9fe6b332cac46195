#include "braid/lab/constructions/barrington.h"

#include <array>

#include "braid/core/error.h"

namespace braid::lab {
namespace {

// Where each place goes.
using Permutation = std::array<std::int64_t, 5>;

constexpr Permutation kIdentity{0, 1, 2, 3, 4};

// `first`, then `second`.
Permutation then(const Permutation& first, const Permutation& second) {
  Permutation p{};
  for (std::size_t x = 0; x < 5; ++x) p[x] = second[static_cast<std::size_t>(first[x])];
  return p;
}

Permutation inverse(const Permutation& p) {
  Permutation q{};
  for (std::size_t x = 0; x < 5; ++x) q[static_cast<std::size_t>(p[x])] = static_cast<std::int64_t>(x);
  return q;
}

// t⁻¹, p, t: the same cycles with places renamed by t.
Permutation conjugate(const Permutation& p, const Permutation& t) { return then(then(inverse(t), p), t); }

// With 5-cycles, (x, p x, p p x, …) from x.
Permutation along(const Permutation& p, std::int64_t x) {
  Permutation orbit{};
  for (auto& y : orbit) y = x, x = p[static_cast<std::size_t>(x)];
  return orbit;
}

// An involution t with t p t = p⁻¹: the reflection of the pentagon 0, p 0, p p 0 … that keeps 0.
Permutation mirror(const Permutation& p) {
  const auto orbit = along(p, 0);
  Permutation t{};
  for (std::size_t i = 0; i < 5; ++i) t[static_cast<std::size_t>(orbit[i])] = orbit[(5 - i) % 5];
  return t;
}

// 5-cycles a and b whose commutator a, b, a⁻¹, b⁻¹ is the 5-cycle p.
struct Pair {
  Permutation a, b;
};
Pair commutator_factors(const Permutation& p) {
  constexpr Permutation a{1, 2, 3, 4, 0}, b{2, 4, 1, 0, 3};
  const auto c = then(then(a, b), then(inverse(a), inverse(b)));
  // Renames c's cycle to p's.
  const auto from = along(c, 0), to = along(p, 0);
  Permutation t{};
  for (std::size_t i = 0; i < 5; ++i) t[static_cast<std::size_t>(from[i])] = to[i];
  require(conjugate(c, t) == p, "barrington: the commutator is not a 5-cycle");
  return {conjugate(a, t), conjugate(b, t)};
}

class Writer {
 public:
  // `p` if token `token` says so: at most four transpositions.
  void when(std::int64_t token, Permutation p) {
    for (std::int64_t x = 0; x < 5; ++x) {
      // p = (x y), then the rest, which keeps x.
      const auto i = static_cast<std::size_t>(x);
      if (p[i] == x) continue;
      const auto y = static_cast<std::int64_t>(static_cast<std::size_t>(inverse(p)[i]));
      out.push_back({token, x, y});
      std::swap(p[i], p[static_cast<std::size_t>(y)]);
    }
    require(p == kIdentity, "barrington: transpositions do not give the permutation");
  }

  // The 5-cycle p if the formula at `token`, of this depth, is true, else nothing.
  void formula(std::int64_t token, std::int64_t depth, const Permutation& p) {
    if (depth == 0) return when(token, p);
    const auto left = token + 1, right = left + formula_tokens(depth - 1);
    const auto [a, b] = commutator_factors(p);
    // AND is the commutator. OR is NOT (NOT x AND NOT y): at an OR gate every part is negated.
    negatable(token, p, [&] {
      operand(token, left, depth - 1, a);
      operand(token, right, depth - 1, b);
      operand(token, left, depth - 1, inverse(a));
      operand(token, right, depth - 1, inverse(b));
    });
  }

  std::vector<Instruction> out;

 private:
  // `part` gives p or nothing; negated, where the gate is an OR, nothing or p: t p t, p = p⁻¹ p.
  template <class Part>
  void negatable(std::int64_t gate, const Permutation& p, Part&& part) {
    const auto t = mirror(p);
    when(gate, t);
    part();
    when(gate, then(t, p));
  }
  void operand(std::int64_t gate, std::int64_t token, std::int64_t depth, const Permutation& p) {
    negatable(gate, p, [&] { formula(token, depth, p); });
  }
};

}  // namespace

BranchingProgram branching_program(std::int64_t depth) {
  require(depth >= 0 && depth <= 6, "a branching program of depth {}: 0 to 6 are supported", depth);
  constexpr Permutation cycle{1, 2, 3, 4, 0};
  Writer writer;
  writer.formula(0, depth, cycle);
  return {.instructions = std::move(writer.out), .true_place = cycle[0]};
}

}  // namespace braid::lab

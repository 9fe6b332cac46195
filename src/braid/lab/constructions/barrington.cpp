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

struct Condition {
  std::int64_t node;
  Turned turned;
};

class Writer {
 public:
  // The 5-cycle p if the formula at `node`, of at most this depth, is true, else nothing.
  void formula(std::int64_t node, std::int64_t depth, const Permutation& p) {
    const Condition output{node, Turned::output};
    if (depth == 0) return when(output, p);
    const auto left = node + 1, right = left + tree_nodes(depth - 1);
    const auto factors = commutator_factors(p);
    const auto &a = factors.a, &b = factors.b;
    turnable(output, p, [&] {
      operand(node, left, depth - 1, a);
      operand(node, right, depth - 1, b);
      operand(node, left, depth - 1, inverse(a));
      operand(node, right, depth - 1, inverse(b));
    });
  }

  std::vector<Instruction> out;

 private:
  // `p` on this condition: at most four transpositions.
  void when(const Condition& condition, Permutation p) {
    for (std::int64_t x = 0; x < 5; ++x) {
      // p = (x y), then the rest, which keeps x.
      const auto i = static_cast<std::size_t>(x);
      if (p[i] == x) continue;
      const auto y = static_cast<std::int64_t>(static_cast<std::size_t>(inverse(p)[i]));
      out.push_back({condition.node, condition.turned, x, y});
      std::swap(p[i], p[static_cast<std::size_t>(y)]);
    }
    require(p == kIdentity, "barrington: transpositions do not give the permutation");
  }
  // `part` gives p or nothing; on the condition, nothing or p: t p t, p = p⁻¹ p.
  template <class Part>
  void turnable(const Condition& condition, const Permutation& p, Part&& part) {
    const auto t = mirror(p);
    when(condition, t);
    part();
    when(condition, then(t, p));
  }
  void operand(std::int64_t gate, std::int64_t node, std::int64_t depth, const Permutation& p) {
    turnable({gate, Turned::operands}, p, [&] { formula(node, depth, p); });
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

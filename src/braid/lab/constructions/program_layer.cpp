#include "braid/lab/constructions/program_layer.h"

#include <algorithm>

#include "braid/lab/constructions/five_rows.h"

namespace braid::lab {
namespace {

constexpr FiveRows kRows{.scratch = 2};

}  // namespace

std::int64_t swap_coordinate(const ProgramSpans& at, const Instruction& instruction) {
  const auto [low, high] = std::minmax(instruction.i, instruction.j);
  const auto pairs = variable_pairs();
  const auto is_it = [low = low, high = high](const VariablePair& p) { return p.i == low && p.j == high; };
  return at.swaps[std::ranges::find_if(pairs, is_it) - pairs.begin()];
}

void set_program_layer(HandBuilt& built, std::size_t layer, const Stream& stream, const ProgramSpans& at,
                       std::int64_t done, std::int64_t true_place, std::array<std::int32_t, 2> answers) {
  const auto delta = built.delta(layer);
  for (const std::int64_t head : {0, 1}) {  // alike but for what they read
    const auto row = head * kProgramKeyDim, value = head * kProgramValueDim;
    kRows.load(delta.key, row, at.start[0], 0);
    delta.value(value, at.start[0]) = kWrite;
    std::int64_t s = 0;
    for (const auto& pair : variable_pairs()) {
      delta.write(head, at.swaps[s]) = -kSaturate;  // beta = 0: the instruction is not done
      FiveRows::swap(delta.key, row, at.swaps[s++], pair);
    }
    delta.write(head, done) = 2 * kSaturate;  // beta = 2: it is
    kRows.read(delta.query, row, at.ask[0], head == 0 ? 0 : true_place);
    delta.gate(value, at.ask[0]) = kKey;
    delta.output(at.read[head], value) = stream.amplitude() / 8;
    built.logit(answers[static_cast<std::size_t>(head)], at.answer[head]) = 1;
  }
  add_squares(built.mlp(layer), 0, at.answer, at.read, stream.amplitude());
}

}  // namespace braid::lab

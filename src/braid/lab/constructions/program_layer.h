// The delta-rule layer that runs a branching program: each instruction is a token, its transposition is in
// the embedding, and an attention layer before has found out whether it is to be done.
#pragma once
#include <array>

#include "braid/lab/constructions/barrington.h"
#include "braid/lab/constructions/hand_built.h"

namespace braid::lab {

struct ProgramSpans {
  explicit ProgramSpans(Stream& stream)
      : start(stream.reserve(1)),
        swaps(stream.reserve(10)),
        ask(stream.reserve(1)),
        read(stream.reserve(2)),
        answer(stream.reserve(2)) {}

  Span start;   // <bos>: marks place 0
  Span swaps;   // of an instruction: its transposition
  Span ask;     // the question
  Span read;    // ±: what marks place 0, and the place that means true
  Span answer;  // their squares: false, true
};

inline constexpr std::int64_t kProgramKeyDim = 16,
                              kProgramValueDim = 16;  // 13 and 1 in use, by heads 0 and 1

std::int64_t swap_coordinate(const ProgramSpans& at, const Instruction& instruction);

// An instruction is done where `done` is set. `answers`: the ids of "false" and "true".
void set_program_layer(HandBuilt& built, std::size_t layer, const Stream& stream, const ProgramSpans& at,
                       std::int64_t done, std::int64_t true_place, std::array<std::int32_t, 2> answers);

}  // namespace braid::lab

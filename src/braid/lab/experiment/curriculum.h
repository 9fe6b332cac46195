// What a run trains on as it goes: stages of growing length, and how often intermediate values are revealed.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "braid/core/random.h"

namespace braid::lab {

// How the spacing of intermediate reveals is drawn for each training example.
enum class Reveals : std::uint8_t {
  none,
  fixed,          // the stage's reveal_spacing
  powers_of_two,  // uniform among 1, 2, 4 … ≤ n
};

struct Stage {
  std::int64_t n = 0;
  std::int64_t steps = 0;  // at most; 0: to the end of the run
  double accuracy = 0;     // a check that reaches it ends the stage; 0: none does
  std::int64_t reveal_spacing = 0;
  std::optional<double> without_reveals = std::nullopt;  // of its examples; none: the curriculum's
};

struct Curriculum {
  std::vector<Stage> stages;
  Reveals reveals = Reveals::none;
  double without_reveals = 0;  // fraction of examples that have none
  double earlier = 0;          // fraction of examples that are of an earlier stage, any of them alike
  // The run ends when so many checks in a row, all in the last stage, have this accuracy; 0: it does not.
  double stop_accuracy = 0;
  std::int64_t stop_checks = 1;
};

// Where a run stands. A pure function of the checks so far.
struct CurriculumState {
  std::size_t stage = 0;
  std::int64_t began = 0;   // the last step before the stage
  std::int64_t streak = 0;  // checks in a row that reached stop_accuracy
  bool finished = false;    // nothing is left to learn
  bool operator==(const CurriculumState&) const = default;
};

// The state for the step after `step`; `accuracy` is of the check made after it, if one was.
CurriculumState advanced(const Curriculum& curriculum, CurriculumState state, std::int64_t step,
                         std::optional<double> accuracy);

// The stage that one example of a step in `stage` is made for. Takes the same amount of `random` whatever
// comes out.
std::size_t draw_stage(const Curriculum& curriculum, std::size_t stage, Random& random);

// All that draw_reveal_spacing() may give for the stage.
std::vector<std::int64_t> reveal_spacings(const Curriculum& curriculum, const Stage& stage);

// The spacing of one example; 0: none. Takes the same amount of `random` whatever comes out.
std::int64_t draw_reveal_spacing(const Curriculum& curriculum, const Stage& stage, Random& random);

}  // namespace braid::lab

// What a run must remember between steps besides its weights and moments, and its form in a checkpoint.
#pragma once
#include "braid/io/json.h"
#include "braid/train/stability.h"

namespace braid::train {

struct TrainerState {
  std::int64_t updates = 0;                        // made so far, skipped steps not counted
  std::vector<double> losses{}, gradient_norms{};  // SkipStep's history, oldest first; empty without it
  StabilityState stability{};
  bool operator==(const TrainerState&) const = default;
};

// Every number comes back with the same bits.
nlohmann::json to_json(const TrainerState& state);
TrainerState parse_trainer_state(const io::Fields& fields);

}  // namespace braid::train

// A trainer whose memory follows the length of its batches: what a run of growing examples needs.
#pragma once
#include <memory>

#include "braid/train/trainer.h"

namespace braid::lab {

class GrowingTrainer {
 public:
  // `backend` must outlive it. Parameters have initial values by config.seed.
  GrowingTrainer(const Backend& backend, train::RunConfig config);

  // The trainer, planned for rows of at least that many tokens. A planned length does not change results:
  // where it is too short, parameters, moments, state and tally move into a new trainer, bit for bit.
  train::Trainer& fit(std::int64_t sequence_length);

  train::Trainer& operator*() const { return *trainer_; }
  train::Trainer* operator->() const { return trainer_.get(); }
  const train::RunConfig& config() const { return *config_; }

 private:
  const Backend& backend_;
  std::unique_ptr<train::RunConfig> config_;  // the trainer refers to it
  std::unique_ptr<train::Trainer> trainer_;
};

}  // namespace braid::lab

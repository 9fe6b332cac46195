// What a run learns: the batches of its steps, and the weight of each token's loss in their gradient.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>

#include "braid/train/datasets.h"
#include "braid/train/trainer.h"

namespace braid::train {

class Objective {
 public:
  virtual ~Objective() = default;
  // Sequences in an epoch.
  virtual std::int64_t instances() const = 0;
  // Sequences at positions [first, first + count) of a run: a pure function of these, for any thread.
  virtual data::Batch assemble(std::int64_t first, std::int64_t count) const = 0;
  // Tells the data apart from others, for data.json.
  virtual nlohmann::ordered_json contents() const { return nullptr; }
  // Once in a process, before weights are restored or set; may use the trainer and leave any weights in it.
  virtual void prepare(Trainer&, const NoticeFunction&, const StopFunction&) {}
  // Whether it has a validation of its own, beside those of data.validation.
  virtual bool validates() const { return false; }
  // Fields for its line in metrics.jsonl, of the trainer's model as it is. May throw Stopped.
  virtual nlohmann::ordered_json validate(Trainer&, const StopFunction&) const { return nullptr; }
  // Right before the step on what assemble(first, …) gave: may set batch.weights from what the trainer's
  // model makes of the batch. Returns fields for the step's line in metrics.jsonl; null: none.
  virtual nlohmann::ordered_json weigh(Trainer&, data::Batch&, std::int64_t) const { return nullptr; }
};

// As train.objective says. What the arguments refer to must outlive it.
std::unique_ptr<Objective> make_objective(const RunConfig& config, const Datasets& datasets,
                                          const text::Tokenizer& tokenizer, data::BatchOptions options,
                                          const NoticeFunction& notice, const StopFunction& stop);

}  // namespace braid::train

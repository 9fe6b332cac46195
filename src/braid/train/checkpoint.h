// A checkpoint on disk: a model directory in the published layout, both moments of every parameter, the state
// of the run, and checksums of all of it (docs/files.md).
#pragma once
#include <nlohmann/json.hpp>

#include "braid/model/parameters.h"
#include "braid/text/tokenizer.h"
#include "braid/train/config.h"

namespace braid::train {

enum class CheckpointKind : std::uint8_t {
  permanent,
  ephemeral,  // goes when a newer ephemeral one is there
};

// What a run needs besides tensors to go on; training_state.json.
struct TrainingState {
  std::int64_t step = 0;
  CheckpointKind kind = CheckpointKind::permanent;
  bool validated = true;             // false: stopped before the validation that is due at this step
  std::uintmax_t metrics_bytes = 0;  // of metrics.jsonl at that step
  std::string arithmetic = {};       // Backend::description: another one may give other bits
  std::int64_t micro_batch_size = 0;
  std::int64_t validation_sequences = 0;              // 0: all
  nlohmann::json trainer = nlohmann::json::object();  // the trainer's own state
};

// Everything that write_checkpoint puts down; trees in host memory.
struct CheckpointContent {
  const model::Parameters &parameters, &first_moment, &second_moment;
  const model::ModelConfig& config;
  const text::Tokenizer& tokenizer;
  const TrainingState& state;
};

// Fills `folder`, which must not exist; nothing in it counts before checksums.json, which is last, is there.
void write_checkpoint(const fs::path& folder, const CheckpointContent& content, std::size_t max_shard_bytes);

struct ListedCheckpoint {
  std::int64_t step = 0;
  CheckpointKind kind = CheckpointKind::permanent;
  fs::path path;
};
struct DamagedCheckpoint {
  fs::path path;
  std::string error;  // one line that names the file
};
// What lies below `checkpoints`, newest first, by what each folder's training_state.json says: names tell
// nothing. Nothing else is verified. `damaged` gets those whose state cannot be read.
std::vector<ListedCheckpoint> list_checkpoints(const fs::path& checkpoints,
                                               std::vector<DamagedCheckpoint>& damaged);

// Whether the folder has the state of a run beside its model.
bool is_checkpoint(const fs::path& folder);

// A checkpoint whose bytes were all verified.
struct CheckpointFolder {
  fs::path path;
  TrainingState state;
  std::vector<DamagedCheckpoint> damaged;  // that were passed over
};

// Reads and verifies one checkpoint folder. Throws, naming file and tensor, on any damage.
CheckpointFolder verified_checkpoint(const fs::path& folder);

// The newest whole one of a run folder, or the checkpoint folder itself. Throws when there is none.
CheckpointFolder find_checkpoint(const fs::path& run_or_checkpoint);

// Where a checkpoint goes: trees over f32 memory of any device.
struct CheckpointTarget {
  const model::ParameterSet* parameters = nullptr;
  const model::ParameterSet *first_moment = nullptr, *second_moment = nullptr;  // null: not read
};
// Throws where a tensor is missing or has another shape; the target then holds a mixture.
void load_checkpoint(const CheckpointTarget& target, const CheckpointFolder& from,
                     const model::ModelConfig& config);

}  // namespace braid::train

// What the reference model of a preference run makes of its pairs, computed once and kept on disk.
#pragma once
#include <optional>

#include "braid/train/config.h"
#include "braid/train/preference_loss.h"

namespace braid::train {

// What the scores depend on.
struct ReferenceKey {
  std::string weights, data;  // hashes
};

// Tells apart the weights that the run starts from, and how its model treats them. Where their folder has
// checksums these are taken, which are verified when the weights are read; else all are hashed, once:
// reference_weights.json of the run folder keeps the result under each file's size, inode and times, which
// change when the file does.
std::string hash_initial_weights(const RunConfig& config);

// None where the file is not there, is damaged, or belongs to other weights or pairs.
std::optional<std::vector<PairScore>> read_reference_scores(const fs::path& path, const ReferenceKey& key,
                                                            std::size_t pairs);
// Atomic and durable.
void write_reference_scores(const fs::path& path, const ReferenceKey& key,
                            const std::vector<PairScore>& scores);

}  // namespace braid::train

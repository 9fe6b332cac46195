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

// Of the weights that the run starts from and of how its model treats them; reads all of them.
std::string hash_initial_weights(const RunConfig& config);

// None where the file is not there, is damaged, or belongs to other weights or pairs.
std::optional<std::vector<PairScore>> read_reference_scores(const fs::path& path, const ReferenceKey& key,
                                                            std::size_t pairs);
// Atomic and durable.
void write_reference_scores(const fs::path& path, const ReferenceKey& key,
                            const std::vector<PairScore>& scores);

}  // namespace braid::train

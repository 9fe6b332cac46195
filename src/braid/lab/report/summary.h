// An experiment's runs by architecture, and the best of each as the paper picks it.
#pragma once
#include "braid/lab/experiment/store.h"

namespace braid::lab {

struct ArchitectureSummary {
  Architecture architecture = Architecture::transformer;
  std::vector<const StoredRun*> runs;  // begun; of the experiment's folder
  const StoredRun* best = nullptr;     // null: none is finished without failure
};
// In the order of all_architectures(); those without runs are left out.
std::vector<ArchitectureSummary> summarize(const StoredExperiment& experiment);

// Whether a is better: higher accuracy at the greatest length, ties decided by the next one (paper, appendix
// C). Both have the same lengths.
bool better(const RunResult& a, const RunResult& b);

// How many of the architecture's finished runs have at least this accuracy at the greatest length.
std::int64_t solved_at_greatest(const ArchitectureSummary& summary, double accuracy);

// The best runs as lines of plain text: "0.984 (1.000)" is ours with the paper's in brackets where there is
// one, and "*" follows what differs from it by more than the 95 % of sampling.
std::string text_table(const StoredExperiment& experiment);

}  // namespace braid::lab

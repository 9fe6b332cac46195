// An experiment of twelve steps, for tests.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "braid/core/error.h"
#include "braid/io/files.h"
#include "braid/lab/experiment/experiment.h"

namespace braid::test {

inline std::string small_experiment_text(const std::filesystem::path& folder) {
  return fmt::format(R"(name = "small"
folder = "{}"
[problem]
name = "swaps"
form = "tokens"
reveals = "fixed"
[model]
architectures = ["gdn-negative", "transformer"]
layers = 2
variant = "hybrid-1:1"
hidden_size = 16
heads = 2
linear_key_dim = 8
linear_value_dim = 8
intermediate_size = 32
[train]
steps = 12
batch_size = 4
warmup_steps = 2
check_every = 3
check_samples = 10
checkpoint_seconds = 0
[[stage]]
n = 2
steps = 4
reveal_spacing = 1
[[stage]]
n = 4
reveal_spacing = 2
[grid]
learning_rates = [0.01]
schedules = ["cosine"]
seeds = [1]
[evaluation]
lengths = [2, 4]
samples = 10
)",
                     folder.string());
}

// Everything that must not depend on interruptions.
inline std::string results_of(const lab::Experiment& e) {
  std::string all;
  for (const auto& run : e.runs()) {
    for (const auto* file : {"metrics.jsonl", "result.json"}) {
      all += io::read_file(e.folder / "runs" / run.name() / file);
    }
  }
  return all;
}

// The text with `from`, which it holds, replaced.
inline std::string changed(std::string text, std::string_view from, std::string_view to) {
  const auto at = text.find(from);
  require(at != text.npos, "the text does not hold '{}'", from);
  return text.replace(at, from.size(), to);
}

}  // namespace braid::test

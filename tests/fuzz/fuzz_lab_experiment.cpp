// Experiments of the lab: whatever is accepted fits together, and the text kept beside its runs says the
// same.
#include <cstdint>

#include "braid/lab/experiment/experiment.h"
#include "check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace braid;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz::accept_errors([&] {
    const auto e = lab::parse_experiment(text, "input");
    fuzz::check(e.words() <= e.hybrid.vocabulary_size, "the model has every word");
    const auto runs = e.runs();
    fuzz::check(!runs.empty() && !e.lengths.empty() && !e.curriculum.stages.empty(),
                "there is something to do");
    e.training(runs.back()).model.validate("run");
    const auto again = lab::parse_experiment(e.text, "written");
    fuzz::check(again.text == e.text && again.hybrid == e.hybrid, "the text kept reads back the same");
    fuzz::check(again.runs().size() == runs.size() && again.runs().back().name() == runs.back().name(),
                "runs survive");
  });
  return 0;
}

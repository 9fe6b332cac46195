// The paper's figures for its synthetic tasks (arXiv 2604.03444, section 3.5 and appendix C).
#pragma once
#include <optional>
#include <string_view>

#include "braid/lab/experiment/grid.h"

namespace braid::lab {

inline constexpr std::string_view kPaperCitation =
    "arXiv 2604.03444, section 3.5 and appendix C: accuracy of the final answer on 256 samples, best run";
inline constexpr std::int64_t kPaperSamples = 256;

// Accuracy of that architecture's best run at length n; none where the paper has no such cell.
std::optional<double> paper_accuracy(std::string_view problem, Architecture architecture, std::int64_t n);

}  // namespace braid::lab

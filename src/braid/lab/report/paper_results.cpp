#include "braid/lab/report/paper_results.h"

#include <algorithm>
#include <array>

namespace braid::lab {
namespace {

constexpr std::array<std::int64_t, 6> kLengths = {4, 8, 16, 32, 64, 128};

struct Row {
  std::string_view problem;
  Architecture architecture;
  std::array<double, 6> accuracy;
};

using enum Architecture;
constexpr std::array kRows = {
    Row{"swaps", transformer, {.512, .277, .172, .230, .199, .230}},
    Row{"swaps", gdn_negative, {1, 1, 1, 1, 1, 1}},
    Row{"swaps", gdn_positive, {1, 1, .973, .645, .215, .223}},
    Row{"swaps", hybrid_negative, {1, 1, 1, 1, 1, 1}},
    Row{"swaps", hybrid_positive, {1, 1, 1, 1, .961, .363}},
    Row{"recall", transformer, {1, 1, 1, 1, 1, .965}},
    Row{"recall", gdn_negative, {1, 1, 1, 1, .832, .676}},
    Row{"recall", gdn_positive, {1, 1, 1, 1, .801, .672}},
    Row{"recall", hybrid_negative, {1, 1, 1, 1, 1, 1}},
    Row{"recall", hybrid_positive, {1, 1, 1, 1, 1, 1}},
    Row{"state_based_recall", transformer, {.820, .750, .738, .738, .629, .543}},
    Row{"state_based_recall", gdn_negative, {1, 1, 1, 1, .781, .637}},
    Row{"state_based_recall", gdn_positive, {.770, .992, .855, .645, .598, .574}},
    Row{"state_based_recall", hybrid_negative, {1, 1, 1, 1, 1, 1}},
    Row{"state_based_recall", hybrid_positive, {.859, .992, .938, .688, .613, .570}},
};

}  // namespace

std::optional<double> paper_accuracy(std::string_view problem, Architecture architecture, std::int64_t n) {
  const auto length = std::ranges::find(kLengths, n);
  const auto row = std::ranges::find_if(
      kRows, [&](const Row& r) { return r.problem == problem && r.architecture == architecture; });
  if (length == kLengths.end() || row == kRows.end()) return std::nullopt;
  return row->accuracy[static_cast<std::size_t>(length - kLengths.begin())];
}

}  // namespace braid::lab

#include "braid/lab/report/summary.h"

#include <algorithm>
#include <cmath>

#include "braid/lab/report/intervals.h"
#include "braid/lab/report/paper_results.h"

namespace braid::lab {
namespace {

std::string cell(const StoredExperiment& e, Architecture architecture, const LengthResult& length) {
  auto text = fmt::format("{:.3f}", length.accuracy());
  const auto paper = paper_accuracy(e.experiment.problem->name(), architecture, length.n);
  if (!paper) return text;
  text += fmt::format(" ({:.3f})", *paper);
  const auto theirs = std::llround(*paper * static_cast<double>(kPaperSamples));
  const bool same = difference(length.correct, length.samples, theirs, kPaperSamples).contains(0);
  return text + (same ? " " : "*");
}

// Columns as wide as their widest entry; the first to the left.
std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string out;
  for (const auto& row : rows) {
    out += fmt::format("  {:<{}}", row[0], widths[0]);
    for (std::size_t c = 1; c < row.size(); ++c) out += fmt::format("  {:>{}}", row[c], widths[c]);
    while (out.back() == ' ') out.pop_back();
    out += '\n';
  }
  return out;
}

}  // namespace

bool better(const RunResult& a, const RunResult& b) {
  for (auto i = a.lengths.size(); i-- > 0;) {
    if (a.lengths[i].correct != b.lengths[i].correct) return a.lengths[i].correct > b.lengths[i].correct;
  }
  return false;
}

std::vector<ArchitectureSummary> summarize(const StoredExperiment& e) {
  std::vector<ArchitectureSummary> out;
  for (const auto architecture : all_architectures()) {
    ArchitectureSummary s{.architecture = architecture, .runs = {}};
    for (const auto& run : e.runs) {
      if (run.spec.architecture != architecture) continue;
      s.runs.push_back(&run);
      const bool counts = run.result && run.result->failure.empty();
      if (counts && (s.best == nullptr || better(*run.result, *s.best->result))) s.best = &run;
    }
    if (!s.runs.empty()) out.push_back(std::move(s));
  }
  return out;
}

std::int64_t solved_at_greatest(const ArchitectureSummary& s, double accuracy) {
  return std::ranges::count_if(s.runs, [&](const StoredRun* run) {
    return run->result && run->result->failure.empty() && run->result->lengths.back().accuracy() >= accuracy;
  });
}

std::string text_table(const StoredExperiment& e) {
  std::vector<std::vector<std::string>> rows(1);
  rows[0] = {"best run, n ="};
  for (const auto n : e.experiment.lengths) rows[0].push_back(std::to_string(n));
  rows[0].insert(rows[0].end(), {"runs", fmt::format("n = {} at 0.95", e.experiment.lengths.back())});
  for (const auto& s : summarize(e)) {
    std::vector<std::string> row{std::string(name_of(s.architecture))};
    for (std::size_t i = 0; i < e.experiment.lengths.size(); ++i) {
      row.push_back(s.best == nullptr ? "-" : cell(e, s.architecture, s.best->result->lengths[i]));
    }
    const auto finished =
        std::ranges::count_if(s.runs, [](const auto* run) { return run->result.has_value(); });
    row.push_back(std::to_string(finished));
    row.push_back(fmt::format("{}", solved_at_greatest(s, 0.95)));
    rows.push_back(std::move(row));
  }
  return aligned(rows);
}

}  // namespace braid::lab

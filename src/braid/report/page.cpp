#include "braid/report/page.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "braid/report/embed.h"
#include "braid/report/spikes.h"

namespace braid::report {
namespace {

using Json = nlohmann::ordered_json;

// What a page of foreign files may hold at most; the page says what was left out.
constexpr std::size_t kMostMarks = 500, kMostSamples = 60, kLongestText = 4000, kLongestRecipe = 100000;

// Six digits are more than a pixel shows.
Json number(double v) {
  if (!std::isfinite(v)) return nullptr;
  if (v == std::floor(v) && std::abs(v) < 9e15) return static_cast<std::int64_t>(v);
  return std::stod(fmt::format("{:.6g}", v));
}

// Cut between characters of UTF-8.
std::string shortened(const std::string& text, std::size_t most) {
  if (text.size() <= most) return text;
  auto end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + fmt::format(" … ({} bytes more)", text.size() - end);
}

// {step, tokens, points: …, columns: {name: {mean, min, max}}}; min and max only where a bucket has several
// rows. A bucket stands at its last step.
Json series_json(const Series& series, std::size_t most_points) {
  const auto buckets = bucket_rows(series.rows(), most_points);
  const bool several = buckets.size() < series.rows();
  Json out{{"step", Json::array()}, {"tokens", Json::array()}, {"columns", Json::object()}};
  for (const auto& rows : buckets) {
    out["step"].push_back(series.step[rows.second - 1]);
    out["tokens"].push_back(number(series.tokens[rows.second - 1]));
  }
  for (const auto& [name, values] : series.columns) {
    Json mean = Json::array(), min = Json::array(), max = Json::array();
    for (const auto& rows : buckets) {
      const auto v = summarize(values, rows);
      mean.push_back(number(v.mean));
      if (several) min.push_back(number(v.min)), max.push_back(number(v.max));
    }
    auto& column = out["columns"][name] = Json{{"mean", std::move(mean)}};
    if (several) column["min"] = std::move(min), column["max"] = std::move(max);
  }
  return out;
}

// Count, score and marks [step, tokens, value, distance in deviations] of a column's spikes, the largest if
// there are too many.
Json spikes_json(const Series& series, std::string_view column) {
  const auto* values = series.find(column);
  if (values == nullptr) return nullptr;
  const auto found = spike_statistics(*values);
  auto spikes = found.spikes;
  const auto height = [](const Spike& s) { return (s.value - s.mean) / s.deviation; };
  if (spikes.size() > kMostMarks) {
    std::ranges::stable_sort(spikes, std::greater{}, height);
    spikes.resize(kMostMarks);
    std::ranges::sort(spikes, {}, &Spike::row);
  }
  Json marks = Json::array();
  for (const auto& s : spikes) {
    marks.push_back({series.step[s.row], number(series.tokens[s.row]), number(s.value), number(height(s))});
  }
  return Json{{"count", found.spikes.size()},
              {"score", number(found.score())},
              {"judged", found.judged},
              {"marks", std::move(marks)}};
}

// Count and marks [step, tokens]; thinned evenly if there are too many.
Json skipped_json(const Series& series) {
  const auto* values = series.find("skipped");
  if (values == nullptr) return nullptr;
  std::vector<std::size_t> rows;
  for (std::size_t row = 0; row < values->size(); ++row) {
    if ((*values)[row] > 0) rows.push_back(row);
  }
  Json marks = Json::array();
  for (const auto& [first, last] : bucket_rows(rows.size(), kMostMarks)) {
    marks.push_back({series.step[rows[first]], number(series.tokens[rows[first]])});
  }
  return Json{{"count", rows.size()}, {"marks", std::move(marks)}};
}

// First, final and best of each validation metric that the table shows.
Json validation_summary(const Series& series) {
  Json out = Json::object();
  for (const auto* column : {"validation_loss", "validation_bits_per_byte"}) {
    const auto* values = series.find(column);
    if (values == nullptr) continue;
    double first = NAN, last = NAN;
    std::size_t best = values->size();
    for (std::size_t row = 0; row < values->size(); ++row) {
      const double v = (*values)[row];
      if (std::isnan(v)) continue;
      if (std::isnan(first)) first = v;
      last = v;
      if (best == values->size() || v < (*values)[best]) best = row;
    }
    if (best == values->size()) continue;
    out[column] = Json{{"first", number(first)},
                       {"final", number(last)},
                       {"best", number((*values)[best])},
                       {"best_step", series.step[best]}};
  }
  return out;
}

Json samples_json(const RunLog& run) {
  Json out = Json::array();
  const auto first = run.samples.size() > kMostSamples ? run.samples.size() - kMostSamples : 0;
  for (auto i = first; i < run.samples.size(); ++i) {
    const auto& s = run.samples[i];
    out.push_back({s.step, shortened(s.prompt, kLongestText), shortened(s.text, kLongestText)});
  }
  return out;
}

double last_value(const std::vector<double>* values) {
  if (values == nullptr) return NAN;
  for (auto v = values->rbegin(); v != values->rend(); ++v) {
    if (!std::isnan(*v)) return *v;
  }
  return NAN;
}

// The earlier run that a recipe's value names a path in; -1: none.
std::int64_t predecessor(const std::vector<RunLog>& runs, std::size_t index) {
  for (auto before = static_cast<std::int64_t>(index) - 1; before >= 0; --before) {
    const auto folder = (runs[static_cast<std::size_t>(before)].folder / "").lexically_normal().string();
    for (const auto& [key, value] : runs[index].recipe) {
      if (key.starts_with("data.") || value.size() < 3 || (value.front() != '\'' && value.front() != '"'))
        continue;
      const auto path = (fs::path(value.substr(1, value.size() - 2)) / "").lexically_normal().string();
      if (path.starts_with(folder)) return before;
    }
  }
  return -1;
}

Json run_json(const std::vector<RunLog>& runs, std::size_t index, const std::string& name,
              std::size_t points) {
  const auto& run = runs[index];
  const auto& s = run.steps;
  const double tokens = last_value(&s.tokens);
  Json out{{"name", name},
           {"last_step", s.rows() == 0 ? Json(nullptr) : Json(s.step.back())},
           {"tokens", number(tokens)},
           {"final_loss", number(last_value(s.find("loss")))},
           {"seconds", number(run.seconds)},
           {"parameters", run.parameters ? Json(*run.parameters) : Json(nullptr)},
           {"tokens_per_second", number(last_value(run.timing.find("tokens_per_second")))},
           {"predecessor", predecessor(runs, index)},
           {"notices", run.notices},
           {"steps", series_json(s, points)},
           {"timing", series_json(run.timing, points)},
           {"spikes", {{"loss", spikes_json(s, "loss")}, {"gradient_norm", spikes_json(s, "gradient_norm")}}},
           {"skipped", skipped_json(s)}};
  Json validation = Json::array();
  for (const auto& [source, series] : run.validation) {
    validation.push_back({{"source", source},
                          {"summary", validation_summary(series)},
                          {"series", series_json(series, points)}});
  }
  out["validation"] = std::move(validation);
  Json recipe = Json::array(), scores = Json::array();
  for (const auto& [key, value] : run.recipe) recipe.push_back({key, shortened(value, kLongestText)});
  for (const auto& v : run.scores) scores.push_back({v.step, v.task, number(v.score), v.examples});
  out["recipe"] = std::move(recipe);
  out["recipe_text"] = shortened(run.recipe_text, kLongestRecipe);
  out["samples"] = samples_json(run);
  out["samples_left_out"] = run.samples.size() - out["samples"].size();
  out["scores"] = std::move(scores);
  return out;
}

// Points of each curve, so that all runs keep within most_numbers.
std::size_t points_of(const std::vector<RunLog>& runs, const PageOptions& options) {
  std::size_t curves = 0;  // three numbers a point: mean, minimum and maximum; step and tokens come besides
  for (const auto& run : runs) {
    curves += 2 + run.steps.columns.size() + run.timing.columns.size();
    for (const auto& [source, series] : run.validation) curves += 1 + series.columns.size();
  }
  const auto fit = options.most_numbers / std::max<std::size_t>(1, 3 * curves);
  return std::clamp<std::size_t>(fit, 16, std::max<std::size_t>(16, options.most_points));
}

}  // namespace

std::vector<std::string> run_names(const std::vector<RunLog>& runs) {
  std::vector<std::string> names, paths;
  for (const auto& run : runs) {
    const auto path = fs::absolute(run.folder / "").lexically_normal().parent_path();
    names.push_back(path.filename().string());
    paths.push_back(run.folder.string());
  }
  const bool distinct = std::set<std::string>(names.begin(), names.end()).size() == names.size();
  return distinct ? names : paths;
}

std::string page_data(const std::vector<RunLog>& runs, const PageOptions& options) {
  const auto names = run_names(runs);
  const auto points = points_of(runs, options);
  Json data{{"layout", options.layout == Layout::stages ? "stages" : "comparison"}, {"runs", Json::array()}};
  for (std::size_t i = 0; i < runs.size(); ++i) {
    data["runs"].push_back(run_json(runs, i, names[i], points));
  }
  return script_data(data);
}

std::string render_page(const std::vector<RunLog>& runs, const PageOptions& options) {
  require(!runs.empty(), "report: no runs: give the folder of at least one");
  return filled_page(page_template(), page_data(runs, options));
}

}  // namespace braid::report

#include "braid/lab/report/lab_page.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "braid/lab/report/intervals.h"
#include "braid/lab/report/paper_results.h"
#include "braid/report/embed.h"
#include "braid/report/series.h"

namespace braid::lab {
namespace {

using Json = nlohmann::ordered_json;

// More digits than a pixel or a reader needs.
Json number(double v) {
  if (!std::isfinite(v)) return nullptr;
  return std::stod(fmt::format("{:.5g}", v));
}

Json interval_json(const Interval& i) { return {number(i.low), number(i.high)}; }

Json curves_json(const std::vector<CheckLine>& checks, std::size_t most_points) {
  std::vector<double> accuracy, loss;
  for (const auto& c : checks) {
    accuracy.push_back(static_cast<double>(c.correct) / static_cast<double>(c.samples));
    loss.push_back(c.loss);
  }
  Json out{{"step", Json::array()}, {"n", Json::array()}};
  for (const auto* key : {"accuracy", "loss"})
    out[key] = {{"mean", Json::array()}, {"low", Json::array()}, {"high", Json::array()}};
  for (const auto& rows : report::bucket_rows(checks.size(), most_points)) {
    out["step"].push_back(checks[rows.second - 1].step);
    out["n"].push_back(checks[rows.second - 1].n);
    const auto put = [&](const char* key, const std::vector<double>& values) {
      const auto v = report::summarize(values, rows);
      out[key]["mean"].push_back(number(v.mean));
      out[key]["low"].push_back(number(v.min));
      out[key]["high"].push_back(number(v.max));
    };
    put("accuracy", accuracy);
    put("loss", loss);
  }
  return out;
}

Json lengths_json(const RunResult& result, const Experiment& experiment) {
  Json out = Json::array();
  for (const auto& l : result.lengths) {
    Json entry{{"n", l.n},
               {"correct", l.correct},
               {"samples", l.samples},
               {"accuracy", number(l.accuracy())},
               {"interval", interval_json(wilson(l.correct, l.samples))}};
    if (const auto paper = paper_accuracy(experiment.problem->name(), result.spec.architecture, l.n)) {
      const auto theirs = std::llround(*paper * static_cast<double>(kPaperSamples));
      const auto apart = difference(l.correct, l.samples, theirs, kPaperSamples);
      entry["paper"] = number(*paper);
      entry["differs"] = !apart.contains(0);
    }
    out.push_back(std::move(entry));
  }
  return out;
}

Json run_json(const StoredRun& run, const Experiment& experiment, const LabPageOptions& options) {
  Json out{{"name", run.spec.name()},
           {"learning_rate", run.spec.learning_rate},
           {"schedule", name_of_schedule(run.spec.schedule)},
           {"seed", run.spec.seed},
           {"finished", run.result.has_value()},
           {"seconds", run.seconds > 0 ? number(run.seconds) : Json(nullptr)},
           {"curves", curves_json(run.checks, options.most_points)}};
  if (!run.result) return out;
  const auto& r = *run.result;
  out["steps"] = r.steps;
  out["last_n"] = r.last_n;
  out["parameters"] = r.parameters;
  out["arithmetic"] = r.arithmetic;
  out["failure"] = r.failure;
  out["lengths"] = lengths_json(r, experiment);
  return out;
}

Json architecture_json(const ArchitectureSummary& s, const StoredExperiment& e,
                       const LabPageOptions& options) {
  Json out{{"name", name_of(s.architecture)},
           {"best", nullptr},
           {"paper", Json::array()},
           {"runs", Json::array()}};
  for (const auto n : e.experiment.lengths) {
    const auto paper = paper_accuracy(e.experiment.problem->name(), s.architecture, n);
    out["paper"].push_back(paper ? number(*paper) : Json(nullptr));
  }
  for (const auto* run : s.runs) {
    if (run == s.best) out["best"] = out["runs"].size();
    out["runs"].push_back(run_json(*run, e.experiment, options));
  }
  return out;
}

Json experiment_json(const StoredExperiment& e, const LabPageOptions& options) {
  const auto& x = e.experiment;
  Json chance = Json::array(), stages = Json::array(), architectures = Json::array();
  for (const auto n : x.lengths) {
    chance.push_back(number(x.problem->chance(x.evaluation_difficulty(n))));
  }
  for (const auto& stage : x.curriculum.stages) stages.push_back(stage.n);
  for (const auto& s : summarize(e)) architectures.push_back(architecture_json(s, e, options));
  return {{"name", x.name},
          {"problem", x.problem->name()},
          {"summary", x.problem->summary()},
          {"form", x.form == Form::code ? "code" : "tokens"},
          {"lengths", x.lengths},
          {"samples", x.samples},
          {"chance", std::move(chance)},
          {"stages", std::move(stages)},
          {"planned", e.planned},
          {"toml", x.text},
          {"architectures", std::move(architectures)}};
}

}  // namespace

Json lab_page_data(const std::vector<StoredExperiment>& experiments, const LabPageOptions& options) {
  Json data{{"citation", kPaperCitation}, {"experiments", Json::array()}};
  for (const auto& e : experiments) data["experiments"].push_back(experiment_json(e, options));
  return data;
}

std::string render_lab_page(const std::vector<StoredExperiment>& experiments, const LabPageOptions& options) {
  require(!experiments.empty(), "lab report: no experiments: give the folder of at least one");
  return report::filled_page(lab_page_template(), report::script_data(lab_page_data(experiments, options)));
}

}  // namespace braid::lab

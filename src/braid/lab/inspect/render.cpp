#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "braid/lab/inspect/inspect.h"
#include "braid/report/embed.h"

namespace braid::lab {
namespace {

using Json = nlohmann::ordered_json;

Json numbers(const std::vector<double>& values) {
  Json out = Json::array();
  for (const double v : values)
    out.push_back(std::isfinite(v) ? Json(std::stod(fmt::format("{:.6g}", v))) : Json());
  return out;
}

double quantile(std::vector<double> values, double share) {
  std::ranges::sort(values);
  const double at = share * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const auto high = std::min(low + 1, values.size() - 1);
  return values[low] + (at - static_cast<double>(low)) * (values[high] - values[low]);
}

std::vector<double> quantiles(const std::vector<double>& values) {
  std::vector<double> out;
  for (const double share : {0.0, 0.25, 0.5, 0.75, 1.0}) out.push_back(quantile(values, share));
  return out;
}

struct WordMean {
  std::string word;
  double beta = 0;
  std::int64_t count = 0;
};

// By falling mean beta.
std::vector<WordMean> beta_by_word(const Inspection& inspection, const HeadTrace& head) {
  std::map<std::string, std::pair<double, std::int64_t>> sums;
  for (std::size_t t = 0; t < head.beta.size(); ++t) {
    auto& [sum, count] = sums[inspection.words[t]];
    sum += head.beta[t];
    ++count;
  }
  std::vector<WordMean> out;
  for (const auto& [word, sum] : sums)
    out.push_back({word, sum.first / static_cast<double>(sum.second), sum.second});
  std::ranges::stable_sort(out, std::greater{}, &WordMean::beta);
  return out;
}

std::string shown(const std::string& word) { return word == "\n" ? "\\n" : word; }

}  // namespace

Json inspection_json(const Inspection& inspection, const std::string& name) {
  Json heads = Json::array();
  for (const auto& h : inspection.heads) {
    Json words = Json::array();
    for (const auto& w : beta_by_word(inspection, h)) {
      words.push_back({{"word", w.word}, {"count", w.count}, {"mean_beta", numbers({w.beta})[0]}});
    }
    heads.push_back({{"layer", h.layer},
                     {"head", h.head},
                     {"decay_quartiles", numbers(quantiles(h.decay))},
                     {"beta_quartiles", numbers(quantiles(h.beta))},
                     {"beta_by_word", std::move(words)},
                     {"decay", numbers(h.decay)},
                     {"beta", numbers(h.beta)},
                     {"eigenvalue", numbers(h.eigenvalue)},
                     {"state_norm", numbers(h.state_norm)},
                     {"effective_rank", numbers(h.effective_rank)},
                     {"erased", numbers(h.erased)},
                     {"written", numbers(h.written)}});
  }
  return {{"model", name},
          {"words", inspection.words},
          {"difference_from_forward", inspection.difference},
          {"heads", std::move(heads)}};
}

std::string render_inspection(const Inspection& inspection, const std::string& name) {
  return report::filled_page(inspection_template(), report::script_data(inspection_json(inspection, name)));
}

std::string inspection_text(const Inspection& inspection) {
  std::string out;
  for (const auto& h : inspection.heads) {
    const auto decay = quantiles(h.decay), beta = quantiles(h.beta);
    const auto [least, greatest] = std::ranges::minmax(h.eigenvalue);
    out += fmt::format(
        "layer {} head {}: decay {:.3f} to {:.3f}, median {:.3f}; beta {:.3f} to {:.3f}, median "
        "{:.3f}; eigenvalue along k {:.3f} to {:.3f}; rank up to {:.1f}\n",
        h.layer, h.head, decay[0], decay[4], decay[2], beta[0], beta[4], beta[2], least, greatest,
        std::ranges::max(h.effective_rank));
    out += "  mean beta by word:";
    const auto words = beta_by_word(inspection, h);
    for (std::size_t i = 0; i < std::min<std::size_t>(words.size(), 12); ++i) {
      out += fmt::format(" {} {:.2f}", shown(words[i].word), words[i].beta);
    }
    out += "\n";
  }
  return out;
}

}  // namespace braid::lab

#include "braid/model/soup.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "braid/io/checksums.h"
#include "braid/model/config_file.h"
#include "braid/model/directory.h"
#include "braid/model/weights.h"

namespace braid::model {
namespace {

namespace fs = io::fs;

std::vector<double> normalised(const SoupOptions& options, std::size_t models) {
  auto weights = options.weights.empty() ? std::vector<double>(models, 1) : options.weights;
  require(weights.size() == models, "soup: {} weights for {} models", weights.size(), models);
  for (const double w : weights) {
    require(std::isfinite(w) && w >= 0, "soup: the weight {} is not a number of at least 0", w);
  }
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  require(std::isfinite(sum) && sum > 0, "soup: the weights sum to {}, expected more than 0", sum);
  for (double& w : weights) w /= sum;
  return weights;
}

// What tells two configs apart, as their files would say it.
void require_same_config(const ModelConfig& a, const fs::path& a_path, const ModelConfig& b,
                         const fs::path& b_path) {
  const auto as_json = [](const ModelConfig& c) {
    return nlohmann::ordered_json::parse(write_config(c, "float32"));
  };
  const auto left = as_json(a), right = as_json(b);
  const auto compare = [&](const std::string& key) {
    const auto of = [&](const nlohmann::ordered_json& j) {
      return j.contains(key) ? j[key].dump() : "absent";
    };
    require(of(left) == of(right),
            "{}: '{}' is {}, in {} it is {}: only models of one config can be averaged", b_path.string(), key,
            of(right), a_path.string(), of(left));
  };
  for (const auto& [key, value] : left.items()) compare(key);
  for (const auto& [key, value] : right.items()) compare(key);
}

// One model that is read parameter by parameter.
struct Ingredient {
  Ingredient(const fs::path& path, const ModelConfig& config) : files(path), reader(files, config) {
    io::verify_tensor_files(path);
  }
  io::TensorFiles files;
  WeightReader reader;
};

// The average of one parameter at a time, for as long as its tensors are being written.
class Average {
 public:
  Average(const std::vector<fs::path>& models, const ModelConfig& config, std::vector<double> weights)
      : models_(models), config_(config), weights_(std::move(weights)) {
    for (const auto& path : models) ingredients_.push_back(std::make_unique<Ingredient>(path, config));
  }

  // Parameters must be asked for one after the other.
  void make(const NamedParameter& parameter) {
    const auto count = parameter.tensor.count();
    sum_.assign(static_cast<std::size_t>(count), 0);
    values_.resize(static_cast<std::size_t>(count));
    for (std::size_t m = 0; m < ingredients_.size(); ++m) {
      ingredients_[m]->reader.read({parameter.spec, view(parameter)});
      for (std::size_t i = 0; i < values_.size(); ++i) {
        require(std::isfinite(values_[i]), "{}: tensor '{}' holds {}", models_[m].string(),
                parameter.spec.name, values_[i]);
        sum_[i] += weights_[m] * static_cast<double>(values_[i]);
      }
    }
    std::ranges::transform(sum_, values_.begin(), [](double x) { return static_cast<float>(x); });
    current_ = file_tensors({parameter.spec, view(parameter)}, config_);
  }
  // The current parameter's tensor of that name; null when it has none.
  const ConstTensor* find(const std::string& name) const {
    const auto found = std::ranges::find(current_, name, &io::NamedTensor::name);
    return found == current_.end() ? nullptr : &found->tensor;
  }
  void finish() const {
    for (const auto& ingredient : ingredients_) ingredient->reader.finish();
  }

 private:
  Tensor view(const NamedParameter& parameter) {
    Tensor t = parameter.tensor;
    t.device = Device::cpu;
    t.data = values_.data();
    return t;
  }

  const std::vector<fs::path>& models_;
  const ModelConfig& config_;
  std::vector<double> weights_;
  std::vector<std::unique_ptr<Ingredient>> ingredients_;
  std::vector<double> sum_;
  std::vector<float> values_;
  std::vector<io::NamedTensor> current_;
};

io::TensorChecksums write_soup(const fs::path& folder, Average& average, const ModelConfig& config,
                               std::size_t max_shard_bytes) {
  Arena shapes_only = Arena::measuring();
  const auto parameters = list(make_parameters(config, shapes_only, {}), config);
  std::vector<io::NamedTensor> tensors;
  for (const auto& parameter : parameters) {
    for (auto& t : file_tensors(parameter, config)) tensors.push_back(std::move(t));
  }
  fs::create_directories(folder);
  io::write_file(folder / "config.json", write_config(config, "float32"));
  auto next = parameters.begin();
  const auto contents = [&](const io::NamedTensor& wanted) {
    while (average.find(wanted.name) == nullptr) average.make(*next++);
    return *average.find(wanted.name);
  };
  auto checksums = io::write_tensor_folder(folder, tensors, max_shard_bytes, "model", contents);
  average.finish();
  return checksums;
}

}  // namespace

SoupSummary make_soup(const std::vector<fs::path>& models, const fs::path& output,
                      const SoupOptions& options) {
  require(!models.empty(), "soup: give at least one model");
  const auto weights = normalised(options, models.size());
  const ModelConfig config = read_config(models.front());
  for (const auto& path : models) {
    require_same_config(config, models.front(), read_config(path), path);
    require_same_tokenizer(models.front(), path);
  }
  Average average(models, config, weights);
  publish_directory(output, [&](const fs::path& folder) {
    const auto checksums = write_soup(folder, average, config, options.max_shard_bytes);
    copy_small_files(models.front(), folder);
    io::write_checksums(folder, checksums);
  });
  std::int64_t parameters = 0;
  Arena shapes_only = Arena::measuring();
  for (const auto& p : list(make_parameters(config, shapes_only, {}), config)) parameters += p.tensor.count();
  return {config, weights, parameters};
}

}  // namespace braid::model

#include "braid/data/mixture.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "braid/data/order.h"

namespace braid::data {
namespace {

constexpr double kRounding = 1e-9;    // of a product that ought to be whole
constexpr double kRatioError = 1e-6;  // of the sum of ratios written in decimals

std::int64_t largest_share(const MixtureSource& source) {
  const auto size = static_cast<double>(source.dataset->size());
  return static_cast<std::int64_t>(std::floor(size * source.max_repetition * (1 + kRounding)));
}

void check(const std::vector<MixtureSource>& sources) {
  require(!sources.empty(), "a mixture needs at least one source");
  const auto length = sources.front().dataset->sequence_length();
  double sum = 0;
  for (const MixtureSource& source : sources) {
    require(source.ratio > 0 && source.ratio <= 1,
            "source '{}': the ratio is {}, expected above 0, at most 1", source.name, source.ratio);
    require(source.max_repetition > 0 && std::isfinite(source.max_repetition),
            "source '{}': max_repetition is {}, expected above 0", source.name, source.max_repetition);
    require(source.dataset->sequence_length() == length,
            "source '{}': instances of {} tokens among those of {}", source.name,
            source.dataset->sequence_length(), length);
    sum += source.ratio;
  }
  require(std::abs(sum - 1) <= kRatioError, "the ratios of the sources add up to {}, they must make 1", sum);
}

// Instances in all, before rounding down source by source.
double total_instances(const std::vector<MixtureSource>& sources, std::int64_t tokens) {
  if (tokens > 0) {
    return static_cast<double>(tokens) / static_cast<double>(sources.front().dataset->sequence_length());
  }
  double total = std::numeric_limits<double>::infinity();
  for (const MixtureSource& source : sources) {
    total = std::min(total, static_cast<double>(largest_share(source)) / source.ratio);
  }
  return total;
}

}  // namespace

MixtureDataset::MixtureDataset(std::vector<MixtureSource> sources, const MixtureOptions& options)
    : sources_(std::move(sources)), options_(options) {
  check(sources_);
  const double total = total_instances(sources_, options.tokens);
  std::int64_t end = 0;
  for (const MixtureSource& source : sources_) {
    const auto wanted = static_cast<std::int64_t>(std::floor(total * source.ratio * (1 + kRounding)));
    const std::int64_t most = largest_share(source);
    require(wanted <= most,
            "source '{}': {} instances wanted, but its {} with max_repetition {} allow {}; raise "
            "max_repetition, lower its ratio or the tokens of the mixture",
            source.name, wanted, source.dataset->size(), source.max_repetition, most);
    require(wanted > 0, "source '{}': its share is less than one instance of {} tokens", source.name,
            sequence_length());
    ends_.push_back(end += wanted);
  }
}

std::int64_t MixtureDataset::instances_of(std::size_t source) const {
  return ends_.at(source) - (source == 0 ? 0 : ends_[source - 1]);
}

std::pair<std::size_t, std::int64_t> MixtureDataset::origin(std::int64_t index) const {
  require(index >= 0 && index < size(), "instance {} is outside the dataset of {}", index, size());
  const auto source = static_cast<std::size_t>(std::ranges::upper_bound(ends_, index) - ends_.begin());
  const auto& [name, dataset, ratio, max_repetition] = sources_[source];
  const Order order(Hash64(options_.seed).update(name).value(), dataset->size());
  return {source, order.at(index - (source == 0 ? 0 : ends_[source - 1]))};
}

void MixtureDataset::read(std::int64_t index, Instance& out) const {
  const auto [source, instance] = origin(index);
  sources_[source].dataset->read(instance, out);
}

}  // namespace braid::data

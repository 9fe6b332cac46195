#include "braid/data/mixture.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "braid/data/order.h"

namespace braid::data {
namespace {

constexpr double kRatioError = 1e-6;  // of the sum of ratios written in decimals

// Shares are counted in integers, of which 128 bits hold every product below: doubles would miss whole
// sequences in mixtures of a thousand million of them.
__extension__ using Wide = unsigned __int128;
constexpr int kRatioPlaces = 18, kRepetitionPlaces = 12;
constexpr std::int64_t kRepetitionUnit = 1'000'000'000'000;
constexpr std::int64_t kRatioUnit = kRepetitionUnit * 1'000'000;

// value · 10^places, cut off: of the decimal number that somebody wrote, which is the shortest that reads as
// this double. The value is at most 1e18 / 10^places.
std::int64_t decimal(double value, int places) {
  std::array<char, 512> text{};
  const auto end = std::to_chars(text.begin(), text.end(), value, std::chars_format::fixed).ptr;
  std::int64_t number = 0;
  int after_point = -1;  // before it
  for (const char c : std::span(text.begin(), end)) {
    if (after_point == places) break;
    if (c == '.') {
      after_point = 0;
      continue;
    }
    number = 10 * number + (c - '0');
    if (after_point >= 0) ++after_point;
  }
  for (after_point = std::max(after_point, 0); after_point < places; ++after_point) number *= 10;
  return number;
}

// ⌊a · b / c⌋, at most what 64 bits hold.
std::int64_t share_of(std::int64_t a, std::int64_t b, Wide c) {
  const Wide share = static_cast<Wide>(a) * static_cast<Wide>(b) / c;
  return static_cast<std::int64_t>(std::min<Wide>(share, std::numeric_limits<std::int64_t>::max()));
}

std::int64_t ratio_of(const MixtureSource& source) { return decimal(source.ratio, kRatioPlaces); }

std::int64_t largest_share(const MixtureSource& source) {
  return share_of(source.dataset->size(), decimal(source.max_repetition, kRepetitionPlaces), kRepetitionUnit);
}

void check(const std::vector<MixtureSource>& sources) {
  require(!sources.empty(), "a mixture needs at least one source");
  const auto length = sources.front().dataset->sequence_length();
  double sum = 0;
  for (const MixtureSource& source : sources) {
    require(source.ratio >= 1e-15 && source.ratio <= 1,
            "source '{}': the ratio is {}, expected at least 1e-15, at most 1", source.name, source.ratio);
    require(source.max_repetition > 0 && source.max_repetition <= 1e6,
            "source '{}': max_repetition is {}, expected above 0, at most 1e6", source.name,
            source.max_repetition);
    require(source.dataset->sequence_length() == length,
            "source '{}': instances of {} tokens among those of {}", source.name,
            source.dataset->sequence_length(), length);
    sum += source.ratio;
  }
  require(std::abs(sum - 1) <= kRatioError, "the ratios of the sources add up to {}, they must make 1", sum);
}

// The source that bounds the mixture most.
const MixtureSource& scarcest(const std::vector<MixtureSource>& sources) {
  const auto less = [](const MixtureSource& a, const MixtureSource& b) {
    return static_cast<Wide>(largest_share(a)) * static_cast<Wide>(ratio_of(b)) <
           static_cast<Wide>(largest_share(b)) * static_cast<Wide>(ratio_of(a));
  };
  return *std::ranges::min_element(sources, less);
}

}  // namespace

MixtureDataset::MixtureDataset(std::vector<MixtureSource> sources, const MixtureOptions& options)
    : sources_(std::move(sources)), options_(options) {
  check(sources_);
  const auto& bound = scarcest(sources_);
  const auto length = static_cast<Wide>(sequence_length());
  std::int64_t end = 0;
  for (const MixtureSource& source : sources_) {
    const auto wanted =
        options.tokens > 0
            ? share_of(options.tokens, ratio_of(source), static_cast<Wide>(kRatioUnit) * length)
            : share_of(largest_share(bound), ratio_of(source), static_cast<Wide>(ratio_of(bound)));
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

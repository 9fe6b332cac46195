// Every instance of a size: the words of one example, each replaced by all that could stand in its place.
#include <algorithm>

#include "braid/core/error.h"
#include "braid/lab/constructions/construction.h"

namespace braid::lab {

std::vector<Construction::Choices> Construction::choices_of(std::int64_t n, const Example& example) const {
  std::vector<Choices> all;
  for (std::size_t i = 0; i < example.ids.size(); ++i) {
    if (std::ranges::find(example.answers, static_cast<std::int64_t>(i)) != example.answers.end()) continue;
    auto words = alternatives(n, example.ids[i]);
    if (words.size() > 1) all.push_back({i, std::move(words)});
  }
  return all;
}

std::int64_t Construction::count(std::int64_t n, std::int64_t most) const {
  std::int64_t count = 1;
  for (const auto& choices : choices_of(n, example(n, 0, 0))) {
    count *= static_cast<std::int64_t>(choices.words.size());
    require(count <= most, "{}: there are more than {} instances of size {}: choose a smaller one", name(),
            most, n);
  }
  return count;
}

Example Construction::numbered(std::int64_t n, std::int64_t index) const {
  Example instance = example(n, 0, 0);
  for (const auto& [at, words] : choices_of(n, instance)) {
    const auto count = static_cast<std::int64_t>(words.size());
    instance.ids[at] = words[static_cast<std::size_t>(index % count)];
    index /= count;
  }
  const auto answers = problem().solve(Form::tokens, instance.ids);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    instance.ids[static_cast<std::size_t>(instance.answers[i])] = answers[i];
  }
  return instance;
}

}  // namespace braid::lab

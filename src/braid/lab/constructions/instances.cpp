// Every instance of a size: the words of one example, each replaced by all that could stand in its place.
#include <algorithm>

#include "braid/core/error.h"
#include "braid/lab/constructions/verify.h"

namespace braid::lab {
namespace {

struct Choices {
  std::size_t at;  // in the example's ids
  std::vector<std::int32_t> words;
};

std::vector<Choices> choices_of(const Construction& construction, std::int64_t n, const Example& example) {
  std::vector<Choices> all;
  for (std::size_t i = 0; i < example.ids.size(); ++i) {
    if (std::ranges::find(example.answers, static_cast<std::int64_t>(i)) != example.answers.end()) continue;
    auto words = construction.alternatives(n, example.ids[i]);
    if (words.size() > 1) all.push_back({i, std::move(words)});
  }
  return all;
}

}  // namespace

std::int64_t count_instances(const Construction& construction, std::int64_t n, std::int64_t most) {
  std::int64_t count = 1;
  for (const auto& choices : choices_of(construction, n, construction.example(n, 0, 0))) {
    count *= static_cast<std::int64_t>(choices.words.size());
    require(count <= most, "{}: there are more than {} instances of size {}: choose a smaller one",
            construction.name(), most, n);
  }
  return count;
}

Example numbered_instance(const Construction& construction, std::int64_t n, std::int64_t index) {
  Example example = construction.example(n, 0, 0);
  for (const auto& [at, words] : choices_of(construction, n, example)) {
    const auto count = static_cast<std::int64_t>(words.size());
    example.ids[at] = words[static_cast<std::size_t>(index % count)];
    index /= count;
  }
  const auto answers = construction.problem().solve(Form::tokens, example.ids);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    example.ids[static_cast<std::size_t>(example.answers[i])] = answers[i];
  }
  return example;
}

}  // namespace braid::lab

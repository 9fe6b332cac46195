// Several datasets as one, in given proportions.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "braid/data/dataset.h"

namespace braid::data {

struct MixtureSource {
  std::string name;  // for errors, and part of what its choice of instances depends on
  std::unique_ptr<Dataset> dataset;
  double ratio = 0;           // share of the mixture's tokens; all together make 1
  double max_repetition = 1;  // how often its tokens may come, 1: each once; below 1: only a part of them
};

struct MixtureOptions {
  std::int64_t tokens = 0;  // in all; 0: as many as the bounds allow
  std::uint64_t seed = 0;
};

// As in OLMo-core a source gives tokens · ratio tokens, in whole instances, at most its own
// times max_repetition; more is an error. Which of its instances come is a permutation of them by (seed,
// name), taken from the front and again from another one when it is used up, so that none comes more than
// once more often than another.
class MixtureDataset : public Dataset {
 public:
  MixtureDataset(std::vector<MixtureSource> sources, const MixtureOptions& options);

  std::int64_t size() const override { return ends_.back(); }
  std::int64_t sequence_length() const override { return sources_.front().dataset->sequence_length(); }
  void read(std::int64_t index, Instance& out) const override;

  const std::vector<MixtureSource>& sources() const { return sources_; }
  std::int64_t instances_of(std::size_t source) const;  // with repetition
  // The source of an instance, and which of the source's instances it is.
  std::pair<std::size_t, std::int64_t> origin(std::int64_t index) const;

 private:
  std::vector<MixtureSource> sources_;
  MixtureOptions options_;
  std::vector<std::int64_t> ends_;  // one past each source's last instance
};

}  // namespace braid::data

// What can be trained on: instances of one length, by index.
#pragma once
#include <cstdint>
#include <vector>

#include "braid/data/token_file.h"

namespace braid::data {

// One instance. The vectors keep their memory from one read to the next.
struct Instance {
  std::vector<TokenId> ids;             // sequence_length, the padding included
  std::vector<std::uint8_t> labels;     // as many: 1 where the token may be a target; empty: everywhere
  std::vector<std::int64_t> documents;  // where documents begin, from 0 on; empty: after each end of text
  std::int64_t padding = 0;             // how many of the last tokens are there only to fill the instance
};

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;  // instances
  virtual std::int64_t sequence_length() const = 0;
  // Overwrites `out`; a pure function of the index, safe from several threads.
  virtual void read(std::int64_t index, Instance& out) const = 0;
};

// Each file cut into blocks of `sequence_length` tokens; the remainder of each file is dropped (OLMo-core).
class FixedLengthDataset : public Dataset {
 public:
  FixedLengthDataset(std::vector<TokenFile> files, std::int64_t sequence_length);

  std::int64_t size() const override { return ends_.back(); }
  std::int64_t sequence_length() const override { return sequence_length_; }
  std::int64_t dropped_tokens() const { return dropped_tokens_; }
  const std::vector<TokenFile>& files() const { return files_; }
  void read(std::int64_t index, Instance& out) const override;

 private:
  std::vector<TokenFile> files_;
  std::vector<std::int64_t> ends_;  // one past each file's last instance
  std::int64_t sequence_length_, dropped_tokens_ = 0;
};

}  // namespace braid::data

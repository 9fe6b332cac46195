// The work of a build of token files: documents read, tokenised by several threads, and kept on disk a part
// at a time, so that a killed build goes on behind its last whole part.
#pragma once
#include <array>
#include <optional>

#include "braid/data/build_token_files.h"
#include "braid/data/ordered_work.h"

namespace braid::data {

inline constexpr std::size_t kTrain = 0, kValidation = 1;

// Tokens of both splits, documents closed by the end of text.
struct SplitTokens {
  std::array<std::vector<TokenId>, 2> ids;
  std::array<std::int64_t, 2> text_bytes{};
};

// A place in the input: so many lines of that file are done.
struct InputPosition {
  std::size_t file = 0;
  std::int64_t line = 0;
};

class ShardedBuild {
 public:
  // `work` is a folder for the parts; those that are there are used if they were made for the same `plan`.
  // Locks the folder against other processes.
  ShardedBuild(const fs::path& work, const std::string& plan, const Vocabulary& vocabulary,
               const BuildOptions& options);
  ~ShardedBuild();
  ShardedBuild(const ShardedBuild&) = delete;
  ShardedBuild& operator=(const ShardedBuild&) = delete;

  // Tokenises what no part holds yet.
  void run(const std::vector<fs::path>& files, const text::Tokenizer& tokenizer);
  // Appends all tokens of a split in the order of the input.
  void write(std::size_t split, TokenFileWriter& writer) const;
  const BuildProgress& progress() const { return progress_; }
  // Removes the folder.
  void finish();

 private:
  struct Block;
  class Reader;
  fs::path part_path(std::int64_t part, std::size_t split) const;
  fs::path marker_path(std::int64_t part) const;
  bool restore_part();
  void take(Block&& block);
  void write_part(const InputPosition& end);
  void report(bool always);

  fs::path folder_;
  Vocabulary vocabulary_;
  const BuildOptions& options_;
  int lock_ = -1;
  std::int64_t parts_ = 0;  // on disk
  InputPosition start_;     // behind them
  SplitTokens tokens_;      // of the part that is being made, or of the end
  std::int64_t part_documents_ = 0, part_empty_documents_ = 0;
  BuildProgress progress_;
  double began_ = 0, reported_ = 0;
};

}  // namespace braid::data

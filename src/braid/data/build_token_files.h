// From text to token files: one for training, one for validation.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "braid/data/token_file.h"

namespace braid::data {

struct BuildProgress {
  std::int64_t documents = 0, empty_documents = 0;  // empty texts are left out
  std::int64_t text_bytes = 0, tokens = 0;
  std::uint64_t input_bytes = 0, total_bytes = 0;  // of the input files as they are: done, and in all
  double seconds = 0;                              // of this process
  bool resumed = false;                            // an earlier process did a part of it, so much:
  std::int64_t resumed_text_bytes = 0;
  std::uint64_t resumed_bytes = 0;

  double bytes_per_second() const;  // of text, in this process
  double seconds_left() const;      // by input bytes; 0 while nothing is done
};

struct BuildOptions {
  double validation_fraction = 0.01;  // in [0, 1); 0 writes no validation file
  std::uint64_t seed = 0;
  int workers = 1;                                    // threads that tokenise
  std::int64_t shard_bytes = std::int64_t{64} << 20;  // of text, between two parts that are kept on disk
  bool bounds = false;  // write lists of document bounds too (document_bounds.h)
  std::function<void(const BuildProgress&)> progress =
      {};  // about twice a second, and once at the end; may throw to stop, as if killed
};

struct BuiltTokenFiles {
  fs::path train, validation;  // `validation` is empty when its fraction is 0
  TokenFileInfo train_info, validation_info;
  bool reused = false;  // an up-to-date result was there
};

// Whether a document belongs to validation: a function of its text and the seed alone, so that order, file
// layout and other documents do not matter, equal texts stay together, and a larger fraction only adds
// documents.
bool in_validation(std::string_view text, double fraction, std::uint64_t seed);

// Writes train.u16 and validation.u16 (.u32 for large vocabularies) with their sidecars into `folder`,
// documents in the order of the inputs (files or folders, see documents.h). The bytes depend only on the
// inputs' names and contents, the tokenizer, the fraction and the seed, not on workers or shards. An earlier
// result is reused when its sidecars name the same sizes and content hashes of the input files (not their
// paths or times), tokenizer, fraction and seed, and its token files still have the contents that the
// sidecars name. A build that was killed leaves whole parts in `folder`/.build, and the next one of the same
// things goes on behind them.
BuiltTokenFiles build_token_files(const std::vector<fs::path>& inputs, const text::Tokenizer& tokenizer,
                                  const fs::path& folder, const BuildOptions& options);

}  // namespace braid::data

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
  double seconds = 0;
  double bytes_per_second() const { return seconds > 0 ? static_cast<double>(text_bytes) / seconds : 0; }
};

struct BuildOptions {
  double validation_fraction = 0.01;  // in [0, 1); 0 writes no validation file
  std::uint64_t seed = 0;
  std::function<void(const BuildProgress&)> progress = {};  // about twice a second, and once at the end
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
// inputs' names and contents, the tokenizer, the fraction and the seed. An earlier result is reused when its
// sidecars name the same sizes and content hashes of the input files (not their paths or times), tokenizer,
// fraction and seed, and its token files still have the contents that the sidecars name.
BuiltTokenFiles build_token_files(const std::vector<fs::path>& inputs, const text::Tokenizer& tokenizer,
                                  const fs::path& folder, const BuildOptions& options);

}  // namespace braid::data

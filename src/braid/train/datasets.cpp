#include "braid/train/datasets.h"

#include "braid/data/build_token_files.h"

namespace braid::train {
namespace {

std::vector<data::TokenFile> open_files(const std::vector<fs::path>& paths,
                                        const text::Tokenizer& tokenizer) {
  std::vector<data::TokenFile> files;
  for (const auto& path : paths) {
    files.emplace_back(path, data::TokenFileOptions{
                                 .width = data::width_of_name(path)
                                              ? std::nullopt
                                              : std::optional(data::width_for(tokenizer.vocabulary_size())),
                                 .vocabulary_size = tokenizer.vocabulary_size(),
                                 .tokenizer = data::tokenizer_fingerprint(tokenizer)});
  }
  return files;
}

}  // namespace

Datasets open_datasets(const DataConfig& c, std::uint64_t seed, const text::Tokenizer& tokenizer,
                       const NoticeFunction& notice) {
  auto train = c.train, validation = c.validation;
  if (!c.documents.empty()) {
    const auto built = data::build_token_files(c.documents, tokenizer, c.folder,
                                               {.validation_fraction = c.validation_fraction, .seed = seed});
    const auto& info = built.train_info;
    if (notice)
      notice(fmt::format("data: {} documents, {} tokens to train on{}", info.documents, info.tokens,
                         built.reused ? " (already tokenised)" : ""));
    train = {built.train};
    if (!built.validation.empty()) validation = {built.validation};
  }
  Datasets d;
  const auto length = c.sequence_length;
  const auto open = [&](const std::vector<fs::path>& paths) {
    auto files = open_files(paths, tokenizer);
    for (const auto& file : files) {
      d.contents.push_back({file.size(), file.info() ? file.info()->content_hash : ""});
    }
    return std::make_unique<data::FixedLengthDataset>(std::move(files), length);
  };
  if (!train.empty()) {
    d.train = open(train);
    require(d.train->size() > 0, "data: the training tokens do not fill one sequence of {}", length);
  }
  if (!validation.empty()) {
    d.validation = open(validation);
    require(d.validation->size() > 0, "data: the validation tokens do not fill one sequence of {}", length);
  }
  return d;
}

}  // namespace braid::train

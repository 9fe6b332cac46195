#include "braid/train/datasets.h"

#include <utility>

#include "braid/data/build_token_files.h"
#include "braid/data/mix_list.h"
#include "braid/data/mixture.h"

namespace braid::train {
namespace {

class Opener {
 public:
  Opener(const DataConfig& config, std::uint64_t seed, const text::Tokenizer& tokenizer,
         const NoticeFunction& notice, const StopFunction& stop)
      : config_(config), seed_(seed), tokenizer_(tokenizer), notice_(notice), stop_(stop) {}

  Datasets open() {
    std::vector<data::MixtureSource> sources;
    for (const SourceConfig& source : config_.sources) {
      sources.push_back({source.name, open_source(source), source.ratio, source.max_repetition});
    }
    if (!sources.empty()) {
      out_.train = config_.mixture ? mix(std::move(sources)) : std::move(sources[0].dataset);
    }
    for (const std::vector<ValidationSourceConfig>* list : {&std::as_const(held_out_), &config_.validation}) {
      for (const ValidationSourceConfig& source : *list) {
        const auto prefix = fmt::format("validation '{}': ", source.name);
        out_.validation.push_back(
            {source.name, make(config_.validation_kind, source.files, source.label_masks, prefix)});
      }
    }
    return std::move(out_);
  }

 private:
  void notice(const std::string& line) const {
    if (notice_) notice_("data: " + line);
  }
  // "source 'web': ", where there are several.
  std::string prefix(const std::string& name) const {
    return config_.mixture ? fmt::format("source '{}': ", name) : "";
  }

  std::unique_ptr<data::Dataset> open_source(const SourceConfig& source) {
    auto files = source.train;
    if (!source.documents.empty()) files = build(source);
    if (!source.mix.empty()) {
      for (auto& entry : data::read_mix_list(source.mix, {config_.mix_base, config_.mix_tokenizer})) {
        files.push_back(std::move(entry.path));
      }
    }
    return make(config_.kind, files, source.label_masks, prefix(source.name));
  }

  // Tokenises the source's documents; those set apart become a validation set of its name.
  std::vector<fs::path> build(const SourceConfig& source) {
    const auto folder = config_.mixture ? config_.folder / source.name : config_.folder;
    const auto built =
        data::build_token_files(source.documents, tokenizer_, folder,
                                {.validation_fraction = config_.validation_fraction,
                                 .seed = seed_,
                                 .progress = [this](const data::BuildProgress&) { stop_if(stop_); }});
    const auto& info = built.train_info;
    notice(fmt::format("{}{} documents, {} tokens to train on{}", prefix(source.name), info.documents,
                       info.tokens, built.reused ? " (already tokenised)" : ""));
    if (!built.validation.empty()) held_out_.push_back({source.name, {built.validation}, {}});
    return {built.train};
  }

  std::vector<data::TokenFile> open_files(const std::vector<fs::path>& paths,
                                          const std::vector<fs::path>& masks) {
    std::vector<data::TokenFile> files;
    const auto width = config_.token_width.value_or(data::width_for(tokenizer_.vocabulary_size()));
    for (std::size_t i = 0; i < paths.size(); ++i) {
      stop_if(stop_);
      const bool named = data::width_of_name(paths[i]).has_value() && !config_.token_width;
      files.emplace_back(paths[i],
                         data::TokenFileOptions{.width = named ? std::nullopt : std::optional(width),
                                                .vocabulary_size = tokenizer_.vocabulary_size(),
                                                .tokenizer = data::tokenizer_fingerprint(tokenizer_),
                                                .label_mask = masks.empty() ? fs::path() : masks[i]});
      const auto& info = files.back().info();
      out_.contents.push_back({files.back().size(), info ? info->content_hash : files.back().sample_hash()});
      if (const auto* mask = files.back().label_mask()) {
        const bool hashed = masks.empty() && info && !info->label_mask_hash.empty();
        out_.contents.back().push_back(hashed ? info->label_mask_hash : mask->hash());
      }
    }
    return files;
  }

  std::unique_ptr<data::Dataset> make(DatasetKind kind, const std::vector<fs::path>& paths,
                                      const std::vector<fs::path>& masks, const std::string& prefix) {
    auto files = open_files(paths, masks);
    const auto length = config_.sequence_length;
    if (kind == DatasetKind::fixed)
      return std::make_unique<data::FixedLengthDataset>(std::move(files), length);
    const auto end = tokenizer_.end_of_text();
    require(config_.pad_id || end,
            "data.pad_id: must be given, the tokenizer has no end of text to pad with");
    const data::DocumentOptions options{.sequence_length = length,
                                        .end_of_text = end.value_or(-1),
                                        .pad = config_.pad_id ? *config_.pad_id : *end,
                                        .long_documents = config_.long_documents,
                                        .source_group_size = config_.source_group_size,
                                        .before_file = [this] { stop_if(stop_); }};
    std::unique_ptr<data::DocumentDataset> made;
    if (kind == DatasetKind::packed) {
      made = std::make_unique<data::PackedDataset>(std::move(files), options);
    } else {
      made = std::make_unique<data::PaddedDataset>(std::move(files), options);
    }
    out_.contents.push_back(
        {made->size(), made->layout_hash()});  // lists of bounds have no hash of their own
    notice(
        fmt::format("{}{} documents in {} sequences, {:.2f} % padding, {} tokens of long documents dropped",
                    prefix, made->documents(), made->size(),
                    100 * static_cast<double>(made->padding()) / static_cast<double>(made->size() * length),
                    made->dropped_tokens()));
    return made;
  }

  std::unique_ptr<data::Dataset> mix(std::vector<data::MixtureSource> sources) {
    auto mixture = std::make_unique<data::MixtureDataset>(
        std::move(sources), data::MixtureOptions{.tokens = config_.mixture_tokens, .seed = seed_});
    for (std::size_t i = 0; i < mixture->sources().size(); ++i) {
      const auto& source = mixture->sources()[i];
      notice(fmt::format(
          "source '{}': {} of {} sequences ({:.2f} %), each {:.2f} times", source.name,
          mixture->instances_of(i), mixture->size(),
          100 * static_cast<double>(mixture->instances_of(i)) / static_cast<double>(mixture->size()),
          static_cast<double>(mixture->instances_of(i)) / static_cast<double>(source.dataset->size())));
    }
    return mixture;
  }

  const DataConfig& config_;
  std::uint64_t seed_;
  const text::Tokenizer& tokenizer_;
  const NoticeFunction& notice_;
  const StopFunction& stop_;
  std::vector<ValidationSourceConfig> held_out_;
  Datasets out_;
};

}  // namespace

std::int64_t Datasets::validation_instances() const {
  std::int64_t total = 0;
  for (const auto& [name, dataset] : validation) total += dataset->size();
  return total;
}

Datasets open_datasets(const DataConfig& config, std::uint64_t seed, const text::Tokenizer& tokenizer,
                       const NoticeFunction& notice, const StopFunction& stop) {
  return Opener(config, seed, tokenizer, notice, stop).open();
}

}  // namespace braid::train

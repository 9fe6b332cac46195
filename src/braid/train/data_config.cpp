#include "braid/train/data_config.h"

#include <algorithm>

#include "braid/io/quote.h"

namespace braid::train {
namespace {

using io::TomlFields;

std::vector<fs::path> label_masks_of(const TomlFields& f, std::size_t files) {
  auto masks = paths(f, "label_masks");
  if (!masks.empty() && masks.size() != files) {
    f.reject("label_masks", fmt::format("names {} masks for {} token files", masks.size(), files));
  }
  return masks;
}

// Names become folders and fields of metrics.
std::string read_name(const TomlFields& f, std::vector<std::string>& taken) {
  std::string name = f.string("name");
  const bool plain = !name.empty() && name[0] != '.' && std::ranges::all_of(name, [](unsigned char c) {
    return c == '_' || c == '-' || c == '.' || (c < 0x80 && std::isalnum(c) != 0);
  });
  if (!plain)
    f.reject("name", fmt::format("is {}, expected letters, digits, '_', '-', '.'", io::in_quotes(name)));
  if (std::ranges::find(taken, name) != taken.end())
    f.reject("name", fmt::format("{} is taken", io::in_quotes(name)));
  taken.push_back(name);
  return name;
}

SourceConfig read_source(const TomlFields& f) {
  SourceConfig s;
  s.documents = paths(f, "documents");
  s.train = paths(f, "train");
  s.mix = f.string_or("mix", "");
  const int given = int{!s.documents.empty()} + int{!s.train.empty()} + int{!s.mix.empty()};
  if (given != 1) {
    f.reject("documents",
             "or 'train' or 'mix' must be given, and one only: texts, token files, or a list of them");
  }
  s.label_masks = label_masks_of(f, s.train.size());
  return s;
}

void read_sources(const TomlFields& f, DataConfig& d) {
  const auto tables = f.tables("sources");
  d.mixture = !tables.empty();
  if (!d.mixture) {
    d.sources = {read_source(f)};
    d.sources[0].name = kDefaultValidation;  // what its held-out documents are called
    return;
  }
  for (const auto* key : {"documents", "train", "mix", "label_masks", "validation"}) {
    if (f.has(key))
      f.reject(key, "stands beside [[data.sources]]: give it in a source, or in [[data.validation_sources]]");
  }
  std::vector<std::string> taken;
  double sum = 0;
  for (const TomlFields& table : tables) {
    const auto name = read_name(table, taken);
    SourceConfig s = read_source(table);
    s.name = name;
    s.ratio = table.number("ratio", 0, 1);
    s.max_repetition = table.number_or("max_repetition", 1, 0, 1e6);
    if (s.ratio == 0) table.reject("ratio", "is 0; leave the source out");
    if (s.max_repetition == 0) table.reject("max_repetition", "is 0; leave the source out");
    sum += s.ratio;
    d.sources.push_back(std::move(s));
  }
  if (sum < 1 - 1e-6 || sum > 1 + 1e-6)
    f.reject("sources", fmt::format("have ratios that add up to {}, not 1", sum));
}

void read_validation(const TomlFields& f, DataConfig& d, bool any_documents) {
  std::vector<std::string> taken;
  for (const SourceConfig& s : d.sources) {
    if (!s.documents.empty() && d.validation_fraction > 0) taken.push_back(s.name);
  }
  if (auto files = paths(f, "validation"); !files.empty()) {
    if (any_documents) {
      f.reject("validation",
               "goes with 'train'; with 'documents', 'validation_fraction' sets some of them apart");
    }
    d.validation.push_back({kDefaultValidation, std::move(files), {}});
    taken.emplace_back(kDefaultValidation);
  }
  for (const TomlFields& table : f.tables("validation_sources")) {
    const auto name = read_name(table, taken);
    auto files = paths(table, "files");
    if (files.empty()) table.reject("files", "must name token files");
    auto masks = label_masks_of(table, files.size());
    d.validation.push_back({name, std::move(files), std::move(masks)});
  }
}

void read_instances(const TomlFields& f, DataConfig& d) {
  using data::LongDocuments;
  d.sequence_length = f.integer_or("sequence_length", 512, 2, kMaxSize);
  d.document_masking = f.boolean_or("document_masking", false);
  d.kind = choose<DatasetKind>(f, "kind", "fixed",
                               {{"fixed", DatasetKind::fixed}, {"packed", DatasetKind::packed}});
  d.validation_kind = choose<DatasetKind>(
      f, "validation_kind", "fixed",
      {{"fixed", DatasetKind::fixed}, {"packed", DatasetKind::packed}, {"padded", DatasetKind::padded}});
  d.long_documents =
      choose<LongDocuments>(f, "long_documents", "truncate",
                            {{"truncate", LongDocuments::truncate}, {"fragment", LongDocuments::fragment}});
  d.source_group_size = f.integer_or("source_group_size", 1, 1, kMaxCount);
  const bool fixed = d.kind == DatasetKind::fixed && d.validation_kind == DatasetKind::fixed;
  for (const auto* key : {"long_documents", "source_group_size", "pad_id"}) {
    if (fixed && f.has(key))
      f.reject(key, "goes with kind = \"packed\", or another validation_kind than \"fixed\"");
  }
  if (f.has("pad_id")) d.pad_id = static_cast<data::TokenId>(f.integer("pad_id", 0, std::int64_t{1} << 30));
  const data::RepetitionFilter defaults;
  const data::RepetitionFilter filter{
      .min_period = f.integer_or("filter_min_period", defaults.min_period, 1, kMaxSize),
      .max_period = f.integer_or("filter_max_period", defaults.max_period, 1, kMaxSize),
      .max_repetitions = f.integer_or("filter_repetitions", defaults.max_repetitions, 3, kMaxSize)};
  if (filter.min_period > filter.max_period) {
    f.reject("filter_min_period", fmt::format("is {}, over filter_max_period, {}: nothing would be filtered",
                                              filter.min_period, filter.max_period));
  }
  if (f.boolean_or("instance_filter", false)) {
    d.instance_filter = filter;
  } else {
    for (const auto* key : {"filter_min_period", "filter_max_period", "filter_repetitions"}) {
      if (f.has(key)) f.reject(key, "goes with instance_filter = true");
    }
  }
}

}  // namespace

DataConfig read_data_config(const TomlFields& f, const fs::path& run_folder) {
  DataConfig d;
  d.preferences = paths(f, "preferences");
  d.validation_preferences = paths(f, "validation_preferences");
  if (d.preferences.empty() && !d.validation_preferences.empty()) {
    f.reject("validation_preferences", "goes with 'preferences'");
  }
  if (d.preferences.empty()) {
    read_sources(f, d);
  } else {
    for (const auto* key : {"documents", "train", "mix", "sources", "label_masks"}) {
      if (f.has(key)) f.reject(key, "is given beside 'preferences', which is all that a dpo run trains on");
    }
    for (const auto* key : {"kind", "instance_filter"}) {
      if (f.has(key)) f.reject(key, "does not go with 'preferences': each response has a row of its own");
    }
  }
  const bool documents = std::ranges::any_of(d.sources, [](const auto& s) { return !s.documents.empty(); });
  const bool mix = std::ranges::any_of(d.sources, [](const auto& s) { return !s.mix.empty(); });
  for (const auto* key : {"folder", "validation_fraction"}) {
    if (!documents && f.has(key)) f.reject(key, "goes with 'documents'; 'train' names token files");
  }
  for (const auto* key : {"mix_base", "mix_tokenizer"}) {
    if (!mix && f.has(key)) f.reject(key, "goes with 'mix'");
  }
  if (!d.mixture && f.has("mixture_tokens")) f.reject("mixture_tokens", "goes with [[data.sources]]");
  d.mixture_tokens = f.integer_or("mixture_tokens", 0, 0);
  d.folder = f.string_or("folder", (run_folder / "data").string());
  d.tokenizer = f.string_or("tokenizer", "byte");
  d.validation_fraction = f.number_or("validation_fraction", 0.02, 0, 0.9);
  read_validation(f, d, documents);
  read_instances(f, d);
  d.mix_base = f.string_or("mix_base", "");
  d.mix_tokenizer = f.string_or("mix_tokenizer", "");
  using Width = std::optional<data::TokenWidth>;
  d.token_width = choose<Width>(
      f, "token_width", "auto",
      {{"auto", std::nullopt}, {"uint16", data::TokenWidth::u16}, {"uint32", data::TokenWidth::u32}});
  d.loaders = static_cast<int>(f.integer_or("loaders", 1, 0, 256));
  return d;
}

}  // namespace braid::train

#include "braid/train/data_config.h"

namespace braid::train {

using io::TomlFields;

DataConfig read_data_config(const TomlFields& f, const fs::path& run_folder) {
  DataConfig d;
  d.documents = paths(f, "documents");
  d.train = paths(f, "train");
  d.validation = paths(f, "validation");
  d.preferences = paths(f, "preferences");
  if (!d.preferences.empty()) {
    for (const auto* key : {"documents", "train"}) {
      if (f.has(key)) f.reject(key, "is given beside 'preferences', which is all that a dpo run trains on");
    }
  } else if (d.documents.empty() == d.train.empty()) {
    f.reject("documents", "or 'train' must be given, and not both: text documents, or token files");
  }
  if (!d.documents.empty() && !d.validation.empty()) {
    f.reject("validation",
             "goes with 'train'; with 'documents', 'validation_fraction' sets some of them apart");
  }
  for (const auto* key : {"folder", "validation_fraction"}) {
    if (d.documents.empty() && f.has(key)) f.reject(key, "goes with 'documents'; 'train' names token files");
  }
  d.folder = f.string_or("folder", (run_folder / "data").string());
  d.tokenizer = f.string_or("tokenizer", "byte");
  d.validation_fraction = f.number_or("validation_fraction", 0.02, 0, 0.9);
  d.sequence_length = f.integer_or("sequence_length", 512, 2, kMaxSize);
  d.document_masking = f.boolean_or("document_masking", false);
  return d;
}

}  // namespace braid::train

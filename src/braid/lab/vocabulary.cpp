#include "braid/lab/vocabulary.h"

#include "braid/core/error.h"
#include "braid/io/quote.h"

namespace braid::lab {

Vocabulary::Vocabulary(std::vector<std::string> words) : words_(std::move(words)) {
  require(words_.size() > 2 && words_[pad] == "<pad>" && words_[bos] == "<bos>",
          "vocabulary: the first two words are <pad> and <bos>");
  for (std::size_t i = 0; i < words_.size(); ++i) {
    const bool added = ids_.emplace(words_[i], static_cast<std::int32_t>(i)).second;
    require(added, "vocabulary: the word '{}' is there twice", words_[i]);
  }
}

const std::string& Vocabulary::word(std::int32_t id) const {
  require(id >= 0 && id < size(), "vocabulary: the id {} is not in 0 … {}", id, size() - 1);
  return words_[static_cast<std::size_t>(id)];
}

std::int32_t Vocabulary::id(std::string_view word) const {
  const auto found = ids_.find(word);
  require(found != ids_.end(), "vocabulary: there is no word {} among the {}", io::in_quotes(word), size());
  return found->second;
}

}  // namespace braid::lab

// The words of a problem's texts and their ids.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace braid::lab {

// Ids are dense from 0; the first two are the same in every vocabulary. Words that stand for integers come
// last and in order, so that the ids of small ones do not depend on how large others may be.
class Vocabulary {
 public:
  static constexpr std::int32_t pad = 0;  // "<pad>": fills batches, never in an example
  static constexpr std::int32_t bos = 1;  // "<bos>": begins every example

  explicit Vocabulary(std::vector<std::string> words);  // starts with "<pad>", "<bos>"; each word once

  std::int64_t size() const { return static_cast<std::int64_t>(words_.size()); }
  const std::string& word(std::int32_t id) const;  // error: not an id
  std::int32_t id(std::string_view word) const;    // error: not a word
  const std::vector<std::string>& words() const { return words_; }

 private:
  std::vector<std::string> words_;
  std::unordered_map<std::string_view, std::int32_t> ids_;  // views into words_
};

}  // namespace braid::lab

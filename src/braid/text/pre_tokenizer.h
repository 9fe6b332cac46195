// Cuts text into the pieces that byte-pair encoding sees one by one.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "braid/text/regex.h"

namespace braid::text {

// What becomes of the matches of a pattern that splits text (the names in tokenizer.json; Removed would lose
// text).
enum class SplitBehavior : std::uint8_t { isolated, merged_with_previous, merged_with_next, contiguous };

struct SplitStep {
  Regex pattern;
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;            // the text between matches plays their part
  bool add_prefix_space = false;  // first puts a space before pieces that do not start with one
  bool split = true;              // false: only the prefix space
};

class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<SplitStep> steps) : steps_(std::move(steps)) {}

  struct Part {
    Span span;
    bool delimiter;
  };
  struct Scratch {
    Regex::Scratch regex;
    std::vector<std::string_view> pieces, next;
    std::vector<Part> parts;
    std::deque<std::string> prefixed;  // owns pieces that got a space
  };
  // The pieces of `text`, which must be well-formed UTF-8, in scratch.pieces; valid until the next call.
  void split(std::string_view text, Scratch& scratch) const;

 private:
  std::vector<SplitStep> steps_;
};

}  // namespace braid::text

#include "braid/text/pre_tokenizer.h"

#include <algorithm>

#include "braid/text/utf8.h"

namespace braid::text {
namespace {

using Part = PreTokenizer::Part;

// Matches and the gaps between them, in order, covering the text. Empty matches count as the format's engine
// counts them: not directly after another match.
void find_parts(std::string_view text, const SplitStep& step, Regex::Scratch& scratch,
                std::vector<Part>& parts) {
  parts.clear();
  std::size_t covered = 0, from = 0;
  bool matched = false;
  while (from <= text.size()) {
    const std::optional<Span> m = step.pattern.find(text, from, scratch);
    if (!m) break;
    const bool empty = m->begin == m->end;
    if (!(empty && matched && m->begin == covered)) {
      if (m->begin > covered) parts.push_back({{covered, m->begin}, step.invert});
      parts.push_back({*m, !step.invert});
      covered = m->end;
      matched = true;
    }
    from = m->end;
    if (empty) from += std::max<std::size_t>(1, first_character(text.substr(from)).length);
  }
  if (covered < text.size()) parts.push_back({{covered, text.size()}, step.invert});
}

// Joins each delimiter that does not follow another one to the part before it. With `backwards` the parts
// come last first, and "before" means after.
void merge_delimiters(std::vector<Part>& parts, bool backwards) {
  std::vector<Part> merged;
  bool after_delimiter = false;
  for (const Part& part : parts) {
    if (part.delimiter && !after_delimiter && !merged.empty()) {
      Span& last = merged.back().span;
      last = backwards ? Span{part.span.begin, last.end} : Span{last.begin, part.span.end};
    } else {
      merged.push_back(part);
    }
    after_delimiter = part.delimiter;
  }
  parts = std::move(merged);
}

void merge_equal(std::vector<Part>& parts) {
  std::vector<Part> merged;
  for (const Part& part : parts) {
    if (!merged.empty() && merged.back().delimiter == part.delimiter) {
      merged.back().span.end = part.span.end;
    } else {
      merged.push_back(part);
    }
  }
  parts = std::move(merged);
}

void split_piece(std::string_view text, const SplitStep& step, PreTokenizer::Scratch& scratch) {
  std::vector<Part>& parts = scratch.parts;
  find_parts(text, step, scratch.regex, parts);
  if (step.behavior == SplitBehavior::merged_with_previous) merge_delimiters(parts, false);
  if (step.behavior == SplitBehavior::merged_with_next) {
    std::reverse(parts.begin(), parts.end());
    merge_delimiters(parts, true);
    std::reverse(parts.begin(), parts.end());
  }
  if (step.behavior == SplitBehavior::contiguous) merge_equal(parts);
  for (const auto& [span, delimiter] : parts) {
    if (span.end > span.begin) scratch.next.push_back(text.substr(span.begin, span.end - span.begin));
  }
}

}  // namespace

void PreTokenizer::split(std::string_view text, Scratch& scratch) const {
  scratch.prefixed.clear();
  scratch.pieces.assign(text.empty() ? 0 : 1, text);
  for (const SplitStep& step : steps_) {
    scratch.next.clear();
    for (std::string_view piece : scratch.pieces) {
      if (step.add_prefix_space && !piece.starts_with(' ')) {
        piece = scratch.prefixed.emplace_back(" ").append(piece);
      }
      if (step.split) {
        split_piece(piece, step, scratch);
      } else {
        scratch.next.push_back(piece);
      }
    }
    scratch.pieces.swap(scratch.next);
  }
}

}  // namespace braid::text

// A text of either form as lines of code with the answers taken out: what the solver reads.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "braid/lab/problems/code_words.h"

namespace braid::lab {

struct Line {
  std::int64_t begin = 0, end = 0;  // of Program::words
  std::int64_t first_token = 0,
               end_token = 0;  // what it was in the text: tokens [first, end), with its answer
  std::int64_t answer = -1;    // of a question: where in the text its answer is, or the length of the text
  std::int32_t zero = 0, stride = 1;  // the answer k is the token zero + k * stride
};

struct Program {
  std::vector<std::int32_t> words;  // of the code vocabulary, without line ends; asserts end with "=="
  std::vector<Line> lines;

  std::span<const std::int32_t> line_words(const Line& line) const {
    return std::span(words).subspan(static_cast<std::size_t>(line.begin),
                                    static_cast<std::size_t>(line.end - line.begin));
  }
  // Ends a line of everything appended to `words` since the last one.
  Line& end_line(std::int64_t first_token, std::int64_t end_token);
  void add(std::initializer_list<std::int32_t> more);
};

// Text in code form. Ids are in the vocabulary and the first is <bos>; only the last question may lack its
// answer.
Program read_code(std::span<const std::int32_t> ids);
// The code form of a program, with an integer as every answer; `answers` receives where they are.
std::vector<std::int32_t> write_code(const Program& program, std::span<const std::int64_t> values,
                                     std::vector<std::int64_t>& answers);

// Reads a text in token form from behind <bos>; errors name token and place.
class TokenReader {
 public:
  TokenReader(const Vocabulary& vocabulary, std::span<const std::int32_t> ids)
      : vocabulary_(&vocabulary), ids_(ids) {}
  bool done() const { return next_ >= position_end(); }
  std::int64_t position() const { return next_; }
  std::int32_t peek() const { return done() ? -1 : ids_[static_cast<std::size_t>(next_)]; }  // -1: at the end
  std::int32_t take() { return ids_[static_cast<std::size_t>(next_++)]; }
  // Skips an answer without looking at it; none is there at the end of the text.
  void skip_answer() { next_ += done() ? 0 : 1; }
  [[noreturn]] void reject(std::string_view expected) const;

 private:
  std::int64_t position_end() const { return static_cast<std::int64_t>(ids_.size()); }
  const Vocabulary* vocabulary_;
  std::span<const std::int32_t> ids_;
  std::int64_t next_ = 1;
};

}  // namespace braid::lab

// The solver of every problem: runs the part of Python that the code form is written in, line by line. It
// knows no problem and shares nothing with the generators.
#pragma once
#include <array>
#include <optional>

#include "braid/lab/problems/code_words.h"

namespace braid::lab {

class Interpreter {
 public:
  // One line without its end. For `assert EXPRESSION ==` the value that belongs there. Throws if it is not
  // Python of this kind or fails as Python would: unknown variables, indices outside lists, modulo 0.
  std::optional<std::int64_t> run(std::span<const std::int32_t> line);

  std::string variables() const;                                    // "a=1 b=0", of those defined
  std::string bits() const;                                         // "0110"; empty: not defined
  const std::vector<std::string>& calls() const { return calls_; }  // of the last line: "and_(1, 0) = 0"
  void record_calls() { recording_ = true; }

 private:
  struct Value;
  class Parser;
  std::array<std::optional<std::int64_t>, 5> variables_;  // a … e
  std::optional<std::vector<std::int64_t>> bits_;
  std::vector<std::string> calls_;
  bool recording_ = false;
};

}  // namespace braid::lab

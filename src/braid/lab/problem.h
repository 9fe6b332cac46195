// The formal problems of the paper (section 3) as texts: seeded generators, exact solvers, two forms.
// docs/lab.md lists the problems, their words and an example of each.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/core/random.h"
#include "braid/lab/vocabulary.h"

namespace braid::lab {

// The same instance as one token per action, or as word-level tokens of a Python program.
enum class Form : std::uint8_t { tokens, code };

// What the questions between the actions ask, where a problem has variables that index bits.
enum class Reveal : std::uint8_t { variable, bit };  // `assert c == 5` | `assert bits[c] == 1`

// A setting that a problem does not have must stay 0. Each problem's limits: Problem::check.
struct Difficulty {
  std::int64_t n = 16;              // actions (swaps, steps …); recall: bits; formulas: leaves
  std::int64_t reveal_spacing = 0;  // a question after every so many actions; 0: only the last one
  std::int64_t bits = 0;            // m of problems that have actions and bits; 0: n
  std::int64_t modulus = 0;         // counter: 2 to 64; 0: 5
  std::int64_t depth = 0;           // formulas: most two-sided gates above a leaf; 0: 64
  std::int64_t padding = 0;         // padded_formula: padding tokens; 0: n * n
  Reveal reveals = Reveal::variable;
};

struct Example {
  std::vector<std::int32_t> ids;      // the whole text, answers included; begins with <bos>
  std::vector<std::int64_t> answers;  // where in `ids` the answers are, ascending; the last one is the last
                                      // token. A model predicts an answer at the token before it.
  std::string code;                   // Python that runs, in either form; its asserts hold the answers
};

struct Line;
struct Program;  // problems/program.h
struct ProblemTokens {
  std::vector<std::int32_t> ids;
  std::vector<std::int64_t> answers;
};

// Stateless: every function is a pure function of its arguments and may be called from any thread.
class Problem {
 public:
  virtual ~Problem() = default;
  virtual std::string_view name() const = 0;
  virtual std::string_view summary() const = 0;  // one line

  const Vocabulary& vocabulary(Form form) const;
  // Throws, naming the setting, if the problem has no such examples.
  virtual void check(const Difficulty& difficulty) const = 0;
  // Ids of every example of this difficulty are below it: as many rows as a model needs, at most the size.
  std::int64_t vocabulary_size(Form form, const Difficulty& difficulty) const;
  // The share of final answers that guessing gets right.
  virtual double chance(const Difficulty& difficulty) const = 0;

  // Example `index` of stream `seed`. Equal arguments give equal bytes everywhere; the form and the reveals
  // change how the instance is told, not the instance.
  Example make(Form form, const Difficulty& difficulty, std::uint64_t seed, std::uint64_t index) const;
  // The answer tokens of a text by its questions, in order. Of `ids` the answers are never looked at; the
  // last one may be missing (ids end with the question), and so may more of the end. In code form any program
  // of the vocabulary will do. Errors name the token: ids outside the vocabulary, text without meaning.
  std::vector<std::int32_t> solve(Form form, std::span<const std::int32_t> ids) const;
  // The solver's state after every action, a line each.
  std::string trace(Form form, std::span<const std::int32_t> ids) const;

 private:
  virtual const Vocabulary& tokens() const = 0;  // vocabulary of Form::tokens
  // The token form of a random instance, answers found by simulation. `difficulty` is checked.
  virtual ProblemTokens draw(const Difficulty& difficulty, Random& random) const = 0;
  virtual std::int64_t words_needed(Form form, const Difficulty& difficulty) const = 0;
  // What a text in token form means as Python. Ids are in the vocabulary, and the first is <bos>.
  virtual Program translate(std::span<const std::int32_t> ids) const = 0;

  Program program(Form form, std::span<const std::int32_t> ids) const;
  std::string line_text(Form form, const Program& program, const Line& line,
                        std::span<const std::int32_t> ids) const;
};

const Problem& problem_named(std::string_view name);  // error: lists the names
std::vector<std::string_view> problem_names();

}  // namespace braid::lab

// Hand-built models that solve the formal problems exactly (paper, section 3 and appendix B), for the very
// code that trained models run on. docs/theory.md derives the weights of each.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "braid/lab/problem.h"
#include "braid/model/weights.h"

namespace braid::lab {

// A text as a construction reads it. Its model predicts answer i at ids[predicts[i]].
struct Reading {
  std::vector<std::int32_t> ids;
  std::vector<std::int64_t> predicts;
};

enum class Promise : std::uint8_t {
  exact,           // right on every instance
  counterexample,  // shows what is lost without one ingredient: wrong, more often as n grows
};

// Stateless, as Problem.
class Construction {
 public:
  virtual ~Construction() = default;
  virtual std::string_view name() const = 0;
  virtual std::string_view summary() const = 0;  // one line
  virtual const Problem& problem() const = 0;
  virtual Promise promise() const { return Promise::exact; }

  // What `braid lab verify` tries where no size is given.
  virtual std::vector<std::int64_t> usual_sizes() const { return {4, 16, 64, 256, 1024}; }
  // Instance `index` of stream `seed`, of size n: what build(n) is for, in the problem's token form. The
  // default: the problem's generator, with a question at the end only.
  virtual Example example(std::int64_t n, std::uint64_t seed, std::uint64_t index) const;
  // The model, f32 in host memory. Throws where there is none of size n.
  virtual model::Model build(std::int64_t n) const = 0;
  // The tokens that build(n) reads for an example no larger than n. The default: the problem's, unchanged.
  virtual Reading read(std::int64_t n, const Example& example) const;

  // Every instance of size n, for exhaustive checks: how many there are, an error if more than `most`; and
  // instance `index` of them, its answers the solver's. The default: an example's words, each replaced by its
  // alternatives.
  virtual std::int64_t count(std::int64_t n, std::int64_t most) const;
  virtual Example numbered(std::int64_t n, std::int64_t index) const;

 protected:
  // The words that could stand where `id` stands, itself among them. One word: it is part of the frame.
  virtual std::vector<std::int32_t> alternatives(std::int64_t /*n*/, std::int32_t id) const { return {id}; }

 private:
  struct Choices {
    std::size_t at;  // in the example's ids
    std::vector<std::int32_t> words;
  };
  std::vector<Choices> choices_of(std::int64_t n, const Example& example) const;
};

const Construction& construction_named(std::string_view name);  // error: lists the names
std::span<const Construction* const> constructions();

}  // namespace braid::lab

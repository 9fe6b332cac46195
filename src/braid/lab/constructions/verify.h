// Runs a hand-built model on instances of its problem, by every path that a trained model has, and compares
// each answer with the solver's.
#pragma once
#include <functional>
#include <limits>

#include "braid/lab/constructions/construction.h"
#include "braid/ops/backend.h"

namespace braid::lab {

enum class Instances : std::uint8_t {
  random,      // of the problem's generator
  exhaustive,  // every instance of this size there is
};

struct VerifyOptions {
  Instances instances = Instances::random;
  std::int64_t count = 10000;  // of random instances
  std::uint64_t seed = 1;
  // A batch has at least so many texts, which take steps together, and so many tokens. The other paths take
  // it in parts of at most so many tokens; a longer text is a part of its own.
  std::int64_t batch_texts = 64;
  std::int64_t batch_tokens = 8192;
  // Called after each batch.
  std::function<void(std::int64_t done, std::int64_t total)> progress{};
};

// One path's answers: the word of the largest logit, right where it is the solver's.
struct PathScore {
  std::int64_t answers = 0, right = 0;
  // Least lead of the solver's word over the best other one, in units of the row's largest |logit|. Negative:
  // some answer was wrong.
  double margin = std::numeric_limits<double>::infinity();
  double accuracy() const { return static_cast<double>(right) / static_cast<double>(answers); }
};

struct Verification {
  std::int64_t instances = 0, tokens = 0;
  PathScore forward;        // the whole text in parallel, as in training and scoring
  PathScore prefill;        // a decode session, the text in one call
  PathScore steps;          // a decode session, token by token
  std::string first_wrong;  // the text of the first instance with a wrong answer, by its words; else empty
  bool all_right() const { return right() == forward.answers + prefill.answers + steps.answers; }
  std::int64_t right() const { return forward.right + prefill.right + steps.right; }
};

// Instances of size n, read by `model`: what construction.build(built_for) gave, in the backend's memory and
// of any dtype; n ≤ built_for.
Verification verify(const Backend& backend, const Construction& construction, const model::Model& model,
                    std::int64_t built_for, std::int64_t n, const VerifyOptions& options);

}  // namespace braid::lab

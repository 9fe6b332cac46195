// Loss of held-out text: over fixed-length instances of token files, or over whole documents.
#pragma once
#include <memory>
#include <string_view>

#include "braid/data/batches.h"
#include "braid/data/documents.h"
#include "braid/model/weights.h"
#include "braid/ops/backend.h"

namespace braid::eval {

// Sums over predicted tokens, in f64 and in the order of the data.
struct TextLoss {
  double nll_sum = 0;                         // nats
  std::int64_t tokens = 0;                    // predicted
  std::int64_t text_bytes = 0;                // that the predicted tokens stand for; end of text: none
  std::int64_t documents = 0, instances = 0;  // whichever was scored
  // By place in the window, in as many equal parts as PerplexityOptions::position_parts asks for.
  std::vector<double> part_nll{};
  std::vector<std::int64_t> part_tokens{};
  double loss() const;           // nats per token
  double perplexity() const;     // exp(loss)
  double bits_per_byte() const;  // nll_sum / (ln 2 · text_bytes)
  TextLoss& operator+=(const TextLoss& other);
};

struct PerplexityOptions {
  std::int64_t context = 1024;       // tokens that a prediction may look at
  std::int64_t batch_tokens = 4096;  // about as many tokens per forward pass; at least one window
  std::int64_t position_parts = 0;   // 0: losses are not told apart by position
};

// Scores documents one after another; add() may hold some back until a batch is full.
class DocumentScorer {
 public:
  // All arguments must outlive the scorer. The tokenizer must have an end of text.
  DocumentScorer(const Backend& backend, const model::Model& model, const text::Tokenizer& tokenizer,
                 PerplexityOptions options);
  ~DocumentScorer();
  DocumentScorer(const DocumentScorer&) = delete;
  DocumentScorer& operator=(const DocumentScorer&) = delete;

  // Every token of the document and the end of text after it is predicted once, the first one from the end of
  // text that precedes it. Windows of `context` tokens start with the document and do not overlap: the first
  // token of a later window is predicted from the one before it alone. Nothing passes from one document, or
  // window, to another.
  void add(std::string_view text);
  TextLoss finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Instances of a dataset in file order; the first token of each is not predicted. Text is counted only with a
// tokenizer.
TextLoss score_instances(const Backend& backend, const model::Model& model, const data::Dataset& dataset,
                         data::BatchOptions batch, PerplexityOptions options,
                         const text::Tokenizer* tokenizer);

}  // namespace braid::eval

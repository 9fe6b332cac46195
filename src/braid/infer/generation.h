// Continuing prompts: prefill in pieces, then a token at a time, several sequences as one batch.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "braid/infer/sampling.h"
#include "braid/model/weights.h"
#include "braid/ops/backend.h"
#include "braid/text/tokenizer.h"

namespace braid::infer {

enum class EndOfText : bool { stop, ignore };  // ignore: it is a token like any other, its text included

struct GenerationOptions {
  std::int64_t max_new_tokens = 256;
  std::int64_t context = 0;  // tokens a sequence may reach, prompt included; 0: the model's max_positions
  std::int64_t batch = 8;    // sequences at one time; further prompts wait
  std::int64_t prefill_chunk = 512;  // tokens of one prompt per call: always cut at multiples of this
  EndOfText end_of_text = EndOfText::stop;
  std::vector<std::string> stop{};  // the text ends before the first of these
  SamplingOptions sampling{};
  std::uint64_t first_stream = 0;  // prompt i draws its random numbers from stream first_stream + i
};

enum class FinishReason : std::uint8_t { length, end_of_text, stop_string };
std::string_view name_of(FinishReason reason);

struct Generation {
  std::vector<text::TokenId> prompt, tokens;  // tokens: all that were drawn, an end of text included
  std::string text;                           // without the end of text, and without the stop string
  FinishReason finish = FinishReason::length;
};

struct GenerationStatistics {
  std::int64_t prefill_tokens = 0, decode_tokens = 0;                            // fed in each phase
  double prefill_seconds = 0, decode_seconds = 0;                                // sampling included
  double prefill_rate() const { return rate(prefill_tokens, prefill_seconds); }  // tokens per second
  double decode_rate() const { return rate(decode_tokens, decode_seconds); }

 private:
  static double rate(std::int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  }
};

struct GenerationResult {
  std::vector<Generation> sequences;  // as the prompts
  GenerationStatistics statistics;
};

// Called with each piece of text of sequence `index` as soon as it is certain; whole UTF-8 characters, unless
// the tokens make none.
using TextFunction = std::function<void(std::size_t index, std::string_view text)>;

// The ids that end a text: the config's, or where it names none the tokenizer's end of text.
std::vector<std::int64_t> end_of_text_ids(const model::ModelConfig& config, const text::Tokenizer& tokenizer);

// A prompt without tokens starts from the beginning-of-text id, or where the config has none from the end of
// text, which is what precedes a document in training. Only ids that the tokenizer has are drawn (published
// vocabularies are padded). Under Arithmetic::strict the result of a prompt has the same bits whatever else
// is in the batch.
GenerationResult generate(const Backend& backend, const model::Model& model, const text::Tokenizer& tokenizer,
                          const std::vector<std::string>& prompts, const GenerationOptions& options,
                          const TextFunction& on_text = {});
// The same for prompts that are tokens already, of a conversation for one (text::ChatFormat::encode_prompt).
GenerationResult generate_from_ids(const Backend& backend, const model::Model& model,
                                   const text::Tokenizer& tokenizer,
                                   const std::vector<std::vector<text::TokenId>>& prompts,
                                   const GenerationOptions& options, const TextFunction& on_text = {});

}  // namespace braid::infer

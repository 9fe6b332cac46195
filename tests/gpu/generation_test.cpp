// Text from the GPU: the same tokens as from the reference, whose logits differ in rounding only.
#include "braid/infer/generation.h"

#include <gtest/gtest.h>

#include "tests/model/golden_models.h"
#include "tests/support/trial.h"

namespace braid::test {
namespace {

std::vector<std::vector<text::TokenId>> tokens_of(const Backend& backend, const std::string& name,
                                                  const infer::SamplingOptions& sampling) {
  const auto model = model::load_model(golden(name), {}, backend.memory);
  const auto tokenizer = text::byte_tokenizer();
  const infer::GenerationOptions options{.max_new_tokens = 24,
                                         .batch = 3,
                                         .prefill_chunk = 16,
                                         .end_of_text = infer::EndOfText::ignore,
                                         .sampling = sampling};
  const std::vector<std::string> prompts{"a longer prompt than the others, over several chunks", "b",
                                         "middle one", "zz"};
  std::vector<std::vector<text::TokenId>> tokens;
  for (auto& s : infer::generate(backend, model, *tokenizer, prompts, options).sequences) {
    tokens.push_back(std::move(s.tokens));
  }
  return tokens;
}

TEST(GpuGeneration, DrawsTheTokensOfTheReference) {
  const Backend reference = make_backend("reference");
  for (const char* name : {"hybrid", "hybrid-gqa-gva", "olmo3"}) {
    for (const infer::SamplingOptions& sampling :
         {infer::SamplingOptions{}, infer::SamplingOptions{.temperature = 1, .seed = 3},
          infer::SamplingOptions{.temperature = 0.8,
          .top_k = 40,
          .top_p = 0.9,
          .min_p = 0.01,
          .repetition_penalty = 1.2,
          .seed = 4}}) {
      EXPECT_EQ(tokens_of(cuda_context().backend(), name, sampling), tokens_of(reference, name, sampling))
          << name << ", temperature " << sampling.temperature;
    }
  }
}

}  // namespace
}  // namespace braid::test

#include "braid/infer/generation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <sstream>

#include "braid/backends/backends.h"
#include "tests/model/golden_models.h"

namespace braid::infer {
namespace {

using Prompts = std::vector<std::string>;

Backend strict(const std::string& name) {
  Backend b = make_backend(name, {.threads = 1, .target = {}});
  b.arithmetic = Arithmetic::strict;
  return b;
}

// The golden models have 320 ids; text is bytes.
class GenerationTest : public ::testing::Test {
 protected:
  GenerationResult run(const Backend& backend, const Prompts& prompts,
                       const GenerationOptions& options) const {
    std::map<std::size_t, std::string> streamed;
    auto result = generate(backend, model_, *tokenizer_, prompts, options,
                           [&](std::size_t i, std::string_view text) { streamed[i] += text; });
    for (std::size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(streamed[i], result.sequences[i].text);
    return result;
  }
  Generation one(const std::string& prompt, const GenerationOptions& options) const {
    return run(reference_, {prompt}, options).sequences.at(0);
  }
  model::Model model_ = test::golden_model("hybrid");
  std::unique_ptr<text::Tokenizer> tokenizer_ = text::byte_tokenizer();
  Backend reference_ = make_backend("reference");
};

const Prompts kPrompts{
    "a longer prompt than the others, over several chunks", "b", "", "middle one", "zz", "seven"};

TEST_F(GenerationTest, PromptInABatchIsThatPromptAloneToTheBit) {
  for (const char* backend : {"reference", "cpu"}) {
    for (const char* golden : {"hybrid", "hybrid-gqa-gva", "olmo3"}) {
      model_ = test::golden_model(golden);
      GenerationOptions options{
          .max_new_tokens = 24, .batch = 4, .prefill_chunk = 16, .sampling = {.temperature = 1}};
      const auto batch = run(strict(backend), kPrompts, options);
      for (std::size_t i = 0; i < kPrompts.size(); ++i) {
        options.first_stream = i;
        const auto alone = run(strict(backend), {kPrompts[i]}, options);
        EXPECT_EQ(alone.sequences[0].tokens, batch.sequences[i].tokens)
            << backend << " " << golden << " " << i;
        EXPECT_EQ(alone.sequences[0].text, batch.sequences[i].text);
      }
    }
  }
}

// Text is ids: "12 7 300 ".
class IdTokenizer : public text::Tokenizer {
 public:
  std::vector<text::TokenId> encode(std::string_view text) const override {
    std::istringstream in{std::string(text)};
    return {std::istream_iterator<text::TokenId>(in), {}};
  }
  std::string decode(std::span<const text::TokenId> ids) const override {
    std::string text;
    for (const auto id : ids) text += std::to_string(id) + " ";
    return text;
  }
  std::int64_t vocabulary_size() const override { return 320; }
  std::optional<text::TokenId> end_of_text() const override { return std::nullopt; }
  std::string_view file_name() const override { return "ids"; }
  std::string file_content() const override { return ""; }
};

TEST_F(GenerationTest, GreedyContinuesAsThePublishedModelDoes) {
  for (const auto& name : test::golden_cases()) {
    model_ = test::golden_model(name);
    const io::TensorFiles files(test::golden(name) / "golden.safetensors");
    const auto& golden = files.at("greedy");
    const std::vector<text::TokenId> all(golden.as<std::int64_t>(),
                                         golden.as<std::int64_t>() + golden.count());
    const auto prompt = static_cast<std::size_t>(files.at("prompt").count());
    const IdTokenizer ids;
    const auto result =
        generate(make_backend("cpu", {.threads = 1, .target = {}}), model_, ids,
                 {ids.decode(std::span(all).first(prompt))}, {.max_new_tokens = 24, .prefill_chunk = 5});
    // The golden run may not draw the end of text; up to there the two are the same.
    auto got = result.sequences[0].tokens;
    if (result.sequences[0].finish == FinishReason::end_of_text) got.pop_back();
    ASSERT_GE(got.size(), 8u) << name << ": too few to tell";
    EXPECT_EQ(got, std::vector(all.begin() + static_cast<std::ptrdiff_t>(prompt),
                               all.begin() + static_cast<std::ptrdiff_t>(prompt + got.size())))
        << name;
  }
}

TEST_F(GenerationTest, SameSeedSameTextOtherSeedOtherText) {
  GenerationOptions options{.max_new_tokens = 30, .sampling = {.temperature = 1, .seed = 5}};
  const auto first = one("text", options), again = one("text", options);
  EXPECT_EQ(first.tokens, again.tokens);
  options.sampling.seed = 6;
  EXPECT_NE(one("text", options).tokens, first.tokens);
}

TEST_F(GenerationTest, EqualPromptsDrawDifferently) {
  const auto r = run(reference_, {"same", "same"}, {.max_new_tokens = 20, .sampling = {.temperature = 1}});
  EXPECT_NE(r.sequences[0].tokens, r.sequences[1].tokens);
}

TEST_F(GenerationTest, EndOfTextEndsTheTextAndIsNotPartOfIt) {
  const GenerationOptions options{.max_new_tokens = 40};
  model_.config.eos_ids = {300};  // never drawn: the tokenizer has 259 ids
  const auto plain = one("abc", options);
  ASSERT_EQ(plain.tokens.size(), 40u);
  EXPECT_EQ(plain.finish, FinishReason::length);
  model_.config.eos_ids = {299, plain.tokens[7]};
  const auto first = std::ranges::find(plain.tokens, plain.tokens[7]) - plain.tokens.begin();
  const auto ended = one("abc", options);
  EXPECT_EQ(ended.finish, FinishReason::end_of_text);
  EXPECT_EQ(static_cast<std::ptrdiff_t>(ended.tokens.size()), first + 1);
  EXPECT_EQ(ended.text, tokenizer_->decode(std::span(plain.tokens).first(static_cast<std::size_t>(first))));
  const auto ignored = one("abc", {.max_new_tokens = 40, .end_of_text = EndOfText::ignore});
  EXPECT_EQ(ignored.tokens, plain.tokens);
  EXPECT_EQ(ignored.text, tokenizer_->decode(plain.tokens));
}

TEST_F(GenerationTest, StopStringSpanningTokensEndsTheTextBeforeIt) {
  GenerationOptions options{.max_new_tokens = 40, .end_of_text = EndOfText::ignore};
  options.sampling = {.temperature = 1, .seed = 3};
  const auto plain = one("abc", options);
  const auto stop = plain.text.substr(10, 3);  // each byte is a token
  options.stop = {"never there", stop};
  const auto cut = one("abc", options);
  EXPECT_EQ(cut.finish, FinishReason::stop_string);
  EXPECT_EQ(cut.text, plain.text.substr(0, plain.text.find(stop)));
  EXPECT_LT(cut.tokens.size(), plain.tokens.size());
}

TEST_F(GenerationTest, ContextBoundsPromptAndText) {
  model_.config.eos_ids = {300};
  const auto r = one("0123456789", {.max_new_tokens = 50, .context = 16});
  EXPECT_EQ(r.tokens.size(), 6u);
  EXPECT_EQ(r.finish, FinishReason::length);
  test::expect_error([&] { one("0123456789", {.context = 10}); }, {"prompt 0", "10 tokens", "context"});
  // The model's own limit is the default.
  EXPECT_EQ(one("01234", {.max_new_tokens = 1000}).tokens.size(), 256u - 5);
}

TEST_F(GenerationTest, EmptyPromptStartsFromWhatPrecedesAText) {
  EXPECT_EQ(one("", {.max_new_tokens = 1}).prompt,
            std::vector<text::TokenId>{1});  // the config's end of text
  model_.config.bos_id = 9;
  EXPECT_EQ(one("", {.max_new_tokens = 1}).prompt, std::vector<text::TokenId>{9});
  model_.config.bos_id.reset();
  model_.config.eos_ids.clear();
  EXPECT_EQ(one("", {.max_new_tokens = 1}).prompt, std::vector<text::TokenId>{256});  // the tokenizer's
}

TEST_F(GenerationTest, Bf16MatricesGiveTheTextOfTheirRoundedValues) {
  // f32 weights rounded to bf16 hold the same numbers as bf16 storage.
  test::TemporaryFolder folder;
  model::save_model(folder.path(), model_.parameters.tree(), model_.config, {.dtype = DType::bf16});
  model_ = model::load_model(folder.path(), {});
  const GenerationOptions options{.max_new_tokens = 30, .end_of_text = EndOfText::ignore};
  const auto wide = one("some text", options);
  model_ = model::load_model(folder.path(), {.matrix = DType::bf16});
  EXPECT_EQ(one("some text", options).tokens, wide.tokens);
}

TEST_F(GenerationTest, CountsWhatItFed) {
  model_.config.eos_ids = {300};
  const auto r = run(reference_, {"abc", "defgh"}, {.max_new_tokens = 4});
  EXPECT_EQ(r.statistics.prefill_tokens, 8);
  EXPECT_EQ(r.statistics.decode_tokens, 2 * 3);  // the last token of each is not fed
  EXPECT_GT(r.statistics.prefill_rate(), 0);
  EXPECT_GT(r.statistics.decode_rate(), 0);
  EXPECT_TRUE(run(reference_, {}, {}).sequences.empty());
}

TEST_F(GenerationTest, BadOptionsAreNamed) {
  test::expect_error([&] { one("a", {.max_new_tokens = 0}); }, {"max_new_tokens"});
  test::expect_error([&] { one("a", {.batch = 0}); }, {"batch"});
  test::expect_error([&] { one("a", {.prefill_chunk = 0}); }, {"prefill_chunk"});
  test::expect_error([&] { one("a", {.context = -1}); }, {"context"});
  test::expect_error([&] { one("a", {.sampling = {.top_p = 2}}); }, {"top_p"});
}

}  // namespace
}  // namespace braid::infer

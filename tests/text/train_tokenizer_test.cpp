#include "braid/text/train_tokenizer.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "braid/core/error.h"
#include "braid/core/random.h"

namespace braid::text {
namespace {

std::array<TokenId, 256> plain_bytes() {
  std::array<TokenId, 256> ids{};
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

// The definition: count all pairs anew for each merge.
std::vector<Merge> naive_merges(const std::vector<CountedPiece>& pieces, std::int64_t vocabulary,
                                std::int64_t min_count) {
  std::vector<std::vector<TokenId>> words;
  for (const auto& piece : pieces) {
    words.emplace_back();
    for (const char c : piece.bytes) words.back().push_back(static_cast<std::uint8_t>(c));
  }
  std::vector<std::string> texts(256);
  for (std::size_t i = 0; i < 256; ++i) texts[i] = std::string(1, static_cast<char>(i));
  std::vector<Merge> merges;
  while (static_cast<std::int64_t>(texts.size()) < vocabulary) {
    std::map<std::pair<TokenId, TokenId>, std::int64_t> counts;
    for (std::size_t w = 0; w < words.size(); ++w) {
      for (std::size_t i = 0; i + 1 < words[w].size(); ++i)
        counts[{words[w][i], words[w][i + 1]}] += pieces[w].count;
    }
    auto best = counts.end();
    for (auto it = counts.begin(); it != counts.end(); ++it) {
      if (best == counts.end() || it->second > best->second) best = it;
    }
    if (best == counts.end() || best->second < min_count) break;
    const auto [left, right] = best->first;
    const std::string text = texts[static_cast<std::size_t>(left)] + texts[static_cast<std::size_t>(right)];
    const auto known = std::find(texts.begin(), texts.end(), text);
    const auto result = static_cast<TokenId>(known - texts.begin());
    if (known == texts.end()) texts.push_back(text);
    merges.push_back({left, right, result});
    for (auto& word : words) {
      std::vector<TokenId> merged;
      for (std::size_t i = 0; i < word.size(); ++i) {
        const bool here = i + 1 < word.size() && word[i] == left && word[i + 1] == right;
        merged.push_back(here ? result : word[i]);
        i += here;
      }
      word = std::move(merged);
    }
  }
  return merges;
}

void expect_equal(const std::vector<Merge>& got, const std::vector<Merge>& want, std::uint64_t seed) {
  ASSERT_EQ(got.size(), want.size()) << "seed " << seed;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].left, want[i].left) << "seed " << seed << " merge " << i;
    ASSERT_EQ(got[i].right, want[i].right) << "seed " << seed << " merge " << i;
    ASSERT_EQ(got[i].result, want[i].result) << "seed " << seed << " merge " << i;
  }
}

TEST(TrainTokenizer, HandComputed) {
  // aab comes 3 times, ab 2: (a,b) 5 times, then (a,ab) 3, then nothing that comes twice.
  const auto merges = train_merges({{"aab", 3}, {"ab", 2}, {"cd", 1}}, plain_bytes(), 1000, 2);
  expect_equal(merges, {{'a', 'b', 256}, {'a', 256, 257}}, 0);
  // Of equal counts the smallest ids; runs are merged from the left: aaa is aa a.
  expect_equal(train_merges({{"xyzw", 2}, {"aaa", 1}}, plain_bytes(), 257, 2), {{'a', 'a', 256}}, 0);
  expect_equal(train_merges({{"ab", 1}}, plain_bytes(), 1000, 2), {}, 0);
}

TEST(TrainTokenizer, AgreesWithCountingAnew) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Random random(seed, 2);
    std::vector<CountedPiece> pieces;
    for (int w = 0; w < 40; ++w) {
      std::string bytes;
      const auto length = 1 + random.next_u64() % 12, letters = 1 + random.next_u64() % 4;
      for (std::uint64_t i = 0; i < length; ++i)
        bytes += static_cast<char>('a' + random.next_u64() % letters);
      pieces.push_back({bytes, static_cast<std::int64_t>(1 + random.next_u64() % 9)});
    }
    expect_equal(train_merges(pieces, plain_bytes(), 256 + 80, 2), naive_merges(pieces, 256 + 80, 2), seed);
  }
}

constexpr std::string_view kText =
    "The cat sat on the mat, and the cat's hat sat on 12345 mats.\n\nIt wasn't the \xc3\xa9t\xc3\xa9 of the "
    "cats: it's "
    "the cat! \xff\xfe\n  the mat  ";

TEST(TrainTokenizer, WritesWhatTheReaderReads) {
  for (const auto pattern : {SplitPattern::cl100k, SplitPattern::gpt2}) {
    TokenizerTrainer trainer(
        {.vocabulary = 270, .pattern = pattern, .special_tokens = {"<|endoftext|>", "<|pad|>"}});
    trainer.add(kText);
    trainer.add("the cat<|pad|>the cat");
    const auto json = trainer.finish();
    const auto tokenizer = parse_tokenizer_json(json, "trained");
    EXPECT_EQ(tokenizer->vocabulary_size(), 270);
    EXPECT_EQ(tokenizer->end_of_text(), 268);
    const auto ids = tokenizer->encode(kText);
    EXPECT_EQ(tokenizer->decode(ids), kText);
    EXPECT_LT(ids.size(), kText.size() * 2 / 3);
    EXPECT_EQ(tokenizer->encode(" the").size(), 1u);
    EXPECT_EQ(tokenizer->encode("<|pad|>"), std::vector<TokenId>{269});
    EXPECT_EQ(json.find("pad|>the"), json.npos);
  }
}

TEST(TrainTokenizer, TheOrderOfTextsDoesNotMatter) {
  const auto train = [](std::initializer_list<std::string_view> texts) {
    TokenizerTrainer trainer({.vocabulary = 400});
    for (const auto text : texts) trainer.add(text);
    return trainer.finish();
  };
  EXPECT_EQ(train({kText, "more of the cats", "hats"}), train({"hats", kText, "more of the cats"}));
}

template <class Fn>
std::string message_of(Fn&& fn) {
  try {
    fn();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(TrainTokenizer, ErrorsSayWhatIsWrong) {
  const auto make = [](TrainTokenizerOptions o) { return message_of([&] { TokenizerTrainer trainer(o); }); };
  EXPECT_NE(make({.vocabulary = 256}).find("256 bytes and 1 special tokens need 257"), std::string::npos);
  EXPECT_NE(make({.vocabulary = 1 << 23}).find("too large"), std::string::npos);
  EXPECT_NE(make({.min_count = 0}).find("smallest count"), std::string::npos);
  EXPECT_NE(make({.special_tokens = {"a", "a"}}).find("twice"), std::string::npos);
  EXPECT_NE(make({.special_tokens = {""}}).find("empty"), std::string::npos);
  EXPECT_NE(message_of([] { static_cast<void>(TokenizerTrainer({}).finish()); }).find("no text"),
            std::string::npos);
}

}  // namespace
}  // namespace braid::text

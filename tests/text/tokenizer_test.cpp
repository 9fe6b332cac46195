#include "braid/text/tokenizer.h"

#include <future>

#include "braid/core/random.h"
#include "braid/io/json.h"
#include "tests/support/files.h"
#include "tests/text/tokenizer_fixture.h"

namespace {

using namespace braid;
using namespace braid::text;
using test::golden, test::message_of, test::small_tokenizer;
using Ids = std::vector<TokenId>;

std::unique_ptr<Tokenizer> load(const nlohmann::json& json) {
  return parse_tokenizer_json(json.dump(), "t.json");
}

const Tokenizer* published() {
  static const auto tokenizer = load_tokenizer(golden("tokenizer.json.gz"));
  return tokenizer.get();
}

std::string random_bytes(Random& random, std::size_t size) {
  std::string bytes;
  for (std::size_t i = 0; i < size; ++i) bytes += static_cast<char>(random.below(256));
  return bytes;
}

// Well-formed and broken UTF-8, white space, digits and special tokens, mixed.
std::string random_mixture(Random& random) {
  static const std::vector<std::string> kParts = {
      "word",          " the",         "  ",           "\n",
      "\r\n",          "\t",           "1234567",      "'s",
      "'LL",           "\u00e9",       "e\u0301",      "\u65e5\u672c",
      "\U0001f600",    "\u180e",       "\u2028",       "\xff",
      "\xe3\x81",      "\xc0\x80",     "\xed\xa0\x80", std::string(1, '\0'),
      "<|endoftext|>", "<|im_start|>", "<|",           "|||IP_ADDRESS|||",
      "...",           "\u0663",       "\u00a0"};
  std::string text;
  for (std::uint64_t n = random.below(40); n > 0; --n) text += kParts[random.below(kParts.size())];
  return text;
}

TEST(GoldenTokenizer, GivesThePublishedIds) {
  const auto tokenizer = published();
  const auto cases = io::read_json(golden("tokenization.json"));
  ASSERT_EQ(cases.size(), 35u);
  for (const auto& c : cases) {
    const auto text = c["text"].get<std::string>();
    const auto ids = tokenizer->encode(text);
    EXPECT_EQ(ids, c["ids"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer->decode(ids), c["decoded"].get<std::string>());
  }
  EXPECT_EQ(tokenizer->vocabulary_size(), 100'278);
  EXPECT_EQ(tokenizer->end_of_text(), 100'257);
}

TEST(GoldenTokenizer, ArbitraryBytesRoundTrip) {
  const auto tokenizer = published();
  Random random(20260404);
  for (int i = 0; i < 300; ++i) {
    const std::string bytes =
        i % 3 == 0 ? random_bytes(random, 1 + random.below(200)) : random_mixture(random);
    ASSERT_EQ(tokenizer->decode(tokenizer->encode(bytes)), bytes) << "round " << i;
  }
}

TEST(GoldenTokenizer, LongPiecesTakeLinearithmicTime) {
  const auto tokenizer = published();
  for (const std::string& unit :
       {std::string("x"), std::string(" "), std::string("\xff"), std::string("ab\u00e9")}) {
    std::string text;
    while (text.size() < 500'000) text += unit;
    const Ids ids = tokenizer->encode(text);
    EXPECT_EQ(tokenizer->decode(ids), text);
  }
}

TEST(GoldenTokenizer, ThreadsShareIt) {
  const auto tokenizer = published();
  std::vector<std::string> texts;
  std::vector<Ids> want;
  Random random(7);
  for (int i = 0; i < 200; ++i) {
    texts.push_back(random_mixture(random));
    want.push_back(tokenizer->encode(texts.back()));
  }
  std::vector<std::future<bool>> threads;
  for (int t = 0; t < 4; ++t) {
    threads.push_back(std::async(std::launch::async, [&] {
      for (std::size_t i = 0; i < texts.size(); ++i) {
        if (tokenizer->encode(texts[i]) != want[i]) return false;
      }
      return true;
    }));
  }
  for (auto& thread : threads) EXPECT_TRUE(thread.get());
}

// U+180E is no white space in Unicode since 6.3, but is for PCRE2's \s.
TEST(GoldenTokenizer, WhiteSpaceIsUnicodes) {
  const auto tokenizer = published();
  const Ids together = tokenizer->encode("!\u180e"), mark = tokenizer->encode("!"),
            rest = tokenizer->encode("\u180e");
  EXPECT_EQ(tokenizer->decode(together), "!\u180e");
  EXPECT_NE(tokenizer->encode(" \u180e")[0],
            tokenizer->encode(" ")[0]);  // " \u180e" is one piece, " ?[^\s\p{L}\p{N}]+"
}

TEST(GoldenTokenizer, ContentRestoresIt) {
  const test::TemporaryFolder folder;
  const auto tokenizer = published();
  EXPECT_EQ(tokenizer->file_name(), "tokenizer.json");
  test::put(folder / tokenizer->file_name(), tokenizer->file_content());
  const auto again = load_tokenizer(folder.path());
  EXPECT_EQ(again->encode("Hello, world!<|im_end|>"), tokenizer->encode("Hello, world!<|im_end|>"));
}

TEST(Merging, FirstMergeFirstThenLeftmost) {
  const auto tokenizer = load(small_tokenizer({{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "aa"}}));
  EXPECT_EQ(tokenizer->encode("abc"), (Ids{'a', 256}));
  EXPECT_EQ(tokenizer->encode("abab"), (Ids{257, 257}));
  EXPECT_EQ(tokenizer->encode("aaaaa"), (Ids{259, 'a'}));
  EXPECT_EQ(tokenizer->encode("aaab"), (Ids{258, 257}));  // "a b" comes before "a a"
  EXPECT_EQ(tokenizer->encode(""), Ids{});
}

// The definition: find the first merge of the list that occurs, at its leftmost place; repeat.
Ids merged_slowly(const std::string& text, const std::vector<std::pair<std::string, std::string>>& merges) {
  std::vector<std::pair<std::string, TokenId>> parts;
  for (const char c : text) parts.push_back({std::string(1, c), static_cast<std::uint8_t>(c)});
  for (std::size_t m = 0; m < merges.size();) {
    bool merged = false;
    for (std::size_t i = 0; i + 1 < parts.size() && !merged; ++i) {
      if (parts[i].first != merges[m].first || parts[i + 1].first != merges[m].second) continue;
      parts[i] = {parts[i].first + parts[i + 1].first, static_cast<TokenId>(256 + m)};
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      merged = true;
    }
    m = merged ? 0 : m + 1;
  }
  Ids ids;
  for (const auto& [unused, id] : parts) ids.push_back(id);
  return ids;
}

TEST(Merging, AgreesWithTheDefinition) {
  Random random(11);
  for (int round = 0; round < 30; ++round) {
    std::vector<std::string> tokens{"a", "b", "c"};
    std::vector<std::pair<std::string, std::string>> merges;
    while (merges.size() < 12) {  // each result is new, so that the fixture numbers them from 256 on
      const std::pair pair{tokens[random.below(tokens.size())], tokens[random.below(tokens.size())]};
      if (std::find(tokens.begin(), tokens.end(), pair.first + pair.second) != tokens.end()) continue;
      merges.push_back(pair);
      tokens.push_back(pair.first + pair.second);
    }
    const auto tokenizer = load(small_tokenizer(merges));
    for (int i = 0; i < 20; ++i) {
      std::string text;
      for (int n = 0; n < 40; ++n) text += static_cast<char>('a' + random.below(3));
      ASSERT_EQ(tokenizer->encode(text), merged_slowly(text, merges)) << "round " << round << ", " << text;
    }
  }
}

TEST(Merging, BothFormsOfMergesMeanTheSame) {
  nlohmann::json json = small_tokenizer({{"a", "b"}, {"ab", "c"}});
  json["model"]["merges"] = {"a b", "ab c"};
  EXPECT_EQ(load(json)->encode("abcab"), (Ids{257, 256}));
}

TEST(Merging, IgnoreMergesTakesWholePieces) {
  nlohmann::json json = small_tokenizer({{"b", "c"}});
  json["model"]["vocab"]["abc"] = 300;  // no merge leads to it
  EXPECT_EQ(load(json)->encode("abc"), (Ids{'a', 256}));
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(load(json)->encode("abc"), Ids{300});
  EXPECT_EQ(load(json)->encode("abcd"), (Ids{'a', 256, 'd'}));
}

TEST(Decoding, UnknownIdsAreErrors) {
  nlohmann::json json = small_tokenizer();
  json["model"]["vocab"]["ab"] = 300;
  const auto tokenizer = load(json);
  EXPECT_EQ(tokenizer->vocabulary_size(), 301);
  EXPECT_EQ(tokenizer->decode(Ids{300, 'c'}), "abc");
  for (const TokenId id : {-1, 299, 301, std::numeric_limits<TokenId>::max()}) {
    EXPECT_HOLDS(message_of([&] { tokenizer->decode(Ids{id}); }), "cannot decode id " + std::to_string(id));
  }
}

TEST(ByteTokenizer, MapsBytesEndOfTextAndChatMarkers) {
  const auto tokenizer = load_tokenizer("byte");
  const std::string text = "a\xff<|endoftext|>b<|im_start|><<|im_end|>";
  const Ids ids{'a', 255, 256, 'b', 257, '<', 258};
  EXPECT_EQ(tokenizer->encode(text), ids);
  EXPECT_EQ(tokenizer->decode(ids), text);
  EXPECT_EQ(tokenizer->encode("<|im_end|"), (Ids{'<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|'}));
  EXPECT_EQ(tokenizer->vocabulary_size(), 259);
  EXPECT_EQ(tokenizer->end_of_text(), 256);
  EXPECT_HOLDS(message_of([&] { tokenizer->decode(Ids{259}); }), "cannot decode id 259");
  EXPECT_HOLDS(message_of([&] { tokenizer->decode(Ids{-1}); }), "cannot decode id -1");
  Random random(3);
  const std::string bytes = random_bytes(random, 5000);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(bytes)), bytes);
}

// What models saved before the markers were tokens hold.
TEST(ByteTokenizer, WithoutMarkersSpellsThem) {
  const test::TemporaryFolder folder;
  const auto plain = byte_tokenizer(ByteMarkers::none);
  EXPECT_EQ(plain->file_content(), "{\"type\": \"byte\"}\n");
  test::put(folder / "braid_tokenizer.json", plain->file_content());
  const auto loaded = load_tokenizer(folder.path());
  EXPECT_EQ(loaded->vocabulary_size(), 257);
  EXPECT_EQ(loaded->file_content(), plain->file_content());
  EXPECT_EQ(loaded->encode("<|endoftext|>"), (Ids{256}));
  EXPECT_EQ(loaded->encode("<|im_end|>"), (Ids{'<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>'}));
  EXPECT_HOLDS(message_of([&] { loaded->decode(Ids{257}); }), "the byte vocabulary has 257 ids");
}

TEST(LoadTokenizer, FindsTheFileOfAModelFolder) {
  const test::TemporaryFolder folder;
  EXPECT_HOLDS(message_of([&] { load_tokenizer(folder.path()); }),
               "neither tokenizer.json nor braid_tokenizer.json");
  const auto byte = byte_tokenizer();
  test::put(folder / byte->file_name(), byte->file_content());
  EXPECT_EQ(load_tokenizer(folder.path())->vocabulary_size(), 259);
  EXPECT_EQ(load_tokenizer(folder / "braid_tokenizer.json")->vocabulary_size(), 259);
  test::put(folder / "tokenizer.json", small_tokenizer().dump());
  EXPECT_HOLDS(message_of([&] { load_tokenizer(folder.path()); }),
               "both tokenizer.json and braid_tokenizer.json");
  std::filesystem::remove(folder / "braid_tokenizer.json");
  EXPECT_EQ(load_tokenizer(folder.path())->vocabulary_size(), 256);
  test::put(folder / "braid_tokenizer.json", R"({"type":"word"})");
  EXPECT_HOLDS(message_of([&] { load_tokenizer(folder / "braid_tokenizer.json"); }),
               "field 'type' is 'word'");
  test::put(folder / "braid_tokenizer.json", R"({"type":"byte","chat_markers":1})");
  EXPECT_HOLDS(message_of([&] { load_tokenizer(folder / "braid_tokenizer.json"); }), "field 'chat_markers'");
  EXPECT_HOLDS(message_of([&] { load_tokenizer(folder / "none.json"); }), (folder / "none.json").string());
}

TEST(StreamingDecoder, HoldsBackUnfinishedCharacters) {
  const auto tokenizer = byte_tokenizer();
  StreamingDecoder stream(*tokenizer);
  const auto push = [&](const std::string& bytes) {
    std::string out;
    for (const char c : bytes) out.append("[").append(stream.push(static_cast<std::uint8_t>(c))).append("]");
    return out;
  };
  EXPECT_EQ(push("a\u00e9"), "[a][][\u00e9]");
  EXPECT_EQ(push("\U0001f600"), "[][][][\U0001f600]");
  EXPECT_EQ(push("\xff"), "[\xff]");
  EXPECT_EQ(push("\xe3\x81x"), "[][][\xe3\x81x]");  // cannot become a character any more
  EXPECT_EQ(push("\xe3\xe3\x81\x82"), "[][\xe3][][\u3042]");
  EXPECT_EQ(push("\xed\xa0"), "[][\xed\xa0]");  // a surrogate
  EXPECT_EQ(push("\xf0\x9f"), "[][]");
  EXPECT_EQ(stream.finish(), "\xf0\x9f");
  EXPECT_EQ(stream.finish(), "");
}

TEST(StreamingDecoder, LosesNothing) {
  const auto tokenizer = published();
  Random random(5);
  for (int i = 0; i < 100; ++i) {
    const std::string bytes = i % 2 == 0 ? random_bytes(random, 50) : random_mixture(random);
    StreamingDecoder stream(*tokenizer);
    std::string out;
    for (const TokenId id : tokenizer->encode(bytes)) out += stream.push(id);
    EXPECT_EQ(out + stream.finish(), bytes);
  }
  StreamingDecoder stream(*tokenizer);
  EXPECT_THROW(stream.push(-5), Error);
  EXPECT_EQ(stream.finish(), "");
}

}  // namespace

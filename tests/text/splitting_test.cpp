// Where text is cut: UTF-8, regular expressions, pre-tokenizers, added tokens.
#include "braid/text/added_tokens.h"
#include "braid/text/byte_alphabet.h"
#include "braid/text/pre_tokenizer.h"
#include "braid/text/utf8.h"
#include "tests/support/files.h"
#include "tests/text/tokenizer_fixture.h"

namespace {

using namespace braid;
using namespace braid::text;
using test::message_of;
using Pieces = std::vector<std::string>;

TEST(Utf8, AcceptsExactlyTheWellFormed) {
  for (std::uint32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xd800 && code < 0xe000) continue;
    std::string s;
    if (code < 0x80) {
      s = {static_cast<char>(code)};
    } else if (code < 0x800) {
      s = {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 63))};
    } else if (code < 0x10000) {
      s = {static_cast<char>(0xe0 | (code >> 12)), static_cast<char>(0x80 | ((code >> 6) & 63)),
           static_cast<char>(0x80 | (code & 63))};
    } else {
      s = {static_cast<char>(0xf0 | (code >> 18)), static_cast<char>(0x80 | ((code >> 12) & 63)),
           static_cast<char>(0x80 | ((code >> 6) & 63)), static_cast<char>(0x80 | (code & 63))};
    }
    const Character first = first_character(s), last = last_character("x" + s);
    ASSERT_TRUE(first.code == code && first.length == s.size()) << std::hex << code;
    ASSERT_TRUE(last.code == code && last.length == s.size()) << std::hex << code;
    for (std::size_t n = 1; n < s.size(); ++n) {
      ASSERT_EQ(first_character(s.substr(0, n)).length, 0u) << std::hex << code;
      ASSERT_TRUE(is_character_start(s.substr(0, n))) << std::hex << code;
    }
    ASSERT_FALSE(is_character_start(s)) << std::hex << code;
  }
  for (const char* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xe3\x41\x41"}) {
    EXPECT_EQ(first_character(bad).length, 0u);
    EXPECT_EQ(valid_prefix("ab" + std::string(bad)), 2u);
  }
  EXPECT_FALSE(is_character_start("\xed\xa0"));
  EXPECT_FALSE(is_character_start("\xf4\x90"));
  EXPECT_FALSE(is_character_start(""));
}

TEST(ByteAlphabet, IsABijection) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(from_byte_alphabet(to_byte_alphabet(all)), all);
  EXPECT_EQ(to_byte_alphabet(" \n"), "\u0120\u010a");
  EXPECT_EQ(from_byte_alphabet("a b"), std::nullopt);
  EXPECT_EQ(from_byte_alphabet("\u0144"), std::nullopt);  // one past the last
  EXPECT_EQ(from_byte_alphabet("\u65e5"), std::nullopt);
  EXPECT_EQ(from_byte_alphabet("\xff"), std::nullopt);
}

TEST(RegexTranslation, KeepsTheMeaningOfTheFormat) {
  EXPECT_EQ(
      translate_pattern(R"([^\r\n\s\p{L}]?\S+\s{2,}(?i:'s)(?!\S)\\s\[)", "x"),
      R"([^\r\n\p{White_Space}\p{L}]?\P{White_Space}+\p{White_Space}{2,}(?i:'s)(?!\P{White_Space})\\s\[)");
  EXPECT_EQ(translate_pattern(R"(\u3042\v)", "x"), R"(\x{3042}\x{0b})");
}

TEST(RegexTranslation, RefusesWhatTheEnginesReadDifferently) {
  const auto error = [](const char* pattern) {
    return message_of([&] { Regex(pattern, "t.json: pattern"); });
  };
  EXPECT_HOLDS(error(R"(a\w)"),
               R"(t.json: pattern: the escape \w at byte 1 of the regular expression 'a\w')");
  for (const char* pattern :
       {R"(\b)",   R"(\h)",    R"(\R)",       R"(\K)",  R"(\C)", R"(\Q)",   R"(\1)",  R"(\pL)",
        R"(\u30)", R"(\x{30)", "[[:alpha:]]", "[a&&b]", "[]a]",  "(*UTF)a", "(?m:a)", "(?{a})",
        "(?R)",    "(?<n>a)",  "a{1,3}+",     "a{,3}",  "a{b",   "\\"}) {
    EXPECT_HOLDS(error(pattern), "is not supported") << pattern;
  }
  EXPECT_HOLDS(error(""), "the pattern is empty");
  EXPECT_HOLDS(error("(a"), "invalid regular expression '(a' at byte 2: missing closing parenthesis");
  EXPECT_HOLDS(error("[a"), "invalid regular expression");
  EXPECT_HOLDS(error(R"(\p{Nonsense})"), "invalid regular expression");
}

TEST(Regex, BadPatternsFailInsteadOfHanging) {
  const Regex regex("(?:a+)+b|(a*)*c", "t.json: pattern");
  Regex::Scratch scratch;
  EXPECT_HOLDS(
      message_of([&] { regex.find(std::string(100, 'a'), 0, scratch); }),
      "t.json: pattern: the regular expression fails at byte 0 of a text of 100 bytes: match limit exceeded");
}

TEST(Regex, DeepRecursionNeedsNoDeepStack) {
  const Regex regex("(?:(?:ab)|(?:cd))*x", "pattern");
  std::string text;
  while (text.size() < 1'000'000) text += "abcd";
  Regex::Scratch scratch;
  try {
    EXPECT_EQ(regex.find(text + "x", 0, scratch)->end, text.size() + 1);
  } catch (const Error& error) {
    EXPECT_HOLDS(error.what(), "the regular expression fails at byte 0");  // out of bounded memory is as good
  }
}

Pieces split(const std::string& text, std::vector<SplitStep> steps) {
  PreTokenizer::Scratch scratch;
  PreTokenizer(std::move(steps)).split(text, scratch);
  return Pieces(scratch.pieces.begin(), scratch.pieces.end());
}

// The example of the format's own documentation: "the-final--countdown" by "-".
TEST(PreTokenizer, SplitBehaviors) {
  const auto with = [](SplitBehavior behavior, bool invert = false) {
    return split("the-final--countdown", {{Regex::literal("-", "x"), behavior, invert}});
  };
  EXPECT_EQ(with(SplitBehavior::isolated), (Pieces{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(with(SplitBehavior::merged_with_previous), (Pieces{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(with(SplitBehavior::merged_with_next), (Pieces{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(with(SplitBehavior::contiguous), (Pieces{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(with(SplitBehavior::isolated, true), with(SplitBehavior::isolated));
  EXPECT_EQ(with(SplitBehavior::merged_with_previous, true), (Pieces{"the", "-final", "-", "-countdown"}));
}

TEST(PreTokenizer, EmptyMatchesCutAndMoveOn) {
  EXPECT_EQ(split("ab\u65e5c", {{Regex("(?=\u65e5)|x*", "x")}}), (Pieces{"a", "b", "\u65e5", "c"}));
  EXPECT_EQ(split("", {{Regex("x*", "x")}}), Pieces{});
  EXPECT_EQ(split("a1b", {{Regex("(?=1)", "x")}}), (Pieces{"a", "1b"}));
}

TEST(PreTokenizer, StepsFollowEachOther) {
  SplitStep prefix{Regex("x", "x")};
  prefix.add_prefix_space = true;
  prefix.split = false;
  EXPECT_EQ(split("ab12 c", {{Regex("\\p{N}", "x")}, prefix}), (Pieces{" ab", " 1", " 2", " c"}));
  EXPECT_EQ(split("a\nb", {{Regex("^.$", "x")}}), (Pieces{"a", "\n", "b"}));  // ^ and $ are of lines
}

// Text in brackets, tokens as numbers.
std::string found(const std::string& text, std::vector<AddedToken> tokens) {
  Regex::Scratch scratch;
  std::vector<Segment> segments;
  AddedTokenFinder(std::move(tokens)).split(text, scratch, segments);
  std::string out;
  for (const Segment& s : segments) out += s.id >= 0 ? std::to_string(s.id) : "[" + std::string(s.text) + "]";
  return out;
}

TEST(AddedTokens, LeftmostThenLongest) {
  const std::vector<AddedToken> tokens{{1, "<a>"}, {2, "<a><b>"}, {3, "b>c"}, {4, "<a><b>cde"}};
  EXPECT_EQ(found("x<a>y", tokens), "[x]1[y]");
  EXPECT_EQ(found("<a><b>c", tokens), "2[c]");
  EXPECT_EQ(found("<a><b>cde", tokens), "4");
  EXPECT_EQ(found("<a><a><", tokens), "11[<]");
  EXPECT_EQ(found("<b>c", tokens), "[<]3");
  EXPECT_EQ(found("", tokens), "");
}

TEST(AddedTokens, SingleWordLooksAtTheNeighbours) {
  const std::vector<AddedToken> tokens{{1, "ab", true}};
  EXPECT_EQ(found("ab", tokens), "1");
  EXPECT_EQ(found("ab, (ab) xab abx", tokens), "1[, (]1[) xab abx]");
  EXPECT_EQ(found("ab\u0301", tokens), "[ab\u0301]");  // marks and connectors are word characters
  EXPECT_EQ(found("_ab", tokens), "[_ab]");
  EXPECT_EQ(found("\u2014"
                  "ab\u65e5",
                  tokens),
            "[\u2014"
            "ab\u65e5]");
  EXPECT_EQ(found("\xff"
                  "ab\xff",
                  tokens),
            "[\xff]1[\xff]");
}

TEST(AddedTokens, StripTakesWhiteSpaceAlong) {
  AddedToken left{1, "<l>"}, right{2, "<r>"};
  left.lstrip = true;
  right.rstrip = true;
  EXPECT_EQ(found("a \u3000\n<l> b", {left, right}), "[a]1[ b]");
  EXPECT_EQ(found("a <r> \u00a0b", {left, right}), "[a ]2[b]");
  EXPECT_EQ(found("<r>  <l>", {left, right}), "21");  // white space that the first took is not taken twice
  EXPECT_EQ(found("  <l>", {left}), "1");
}

// Tokens that are not normalized are found first, in the whole text.
TEST(AddedTokens, NormalizedOnesComeSecond) {
  auto file = test::small_tokenizer();
  file["added_tokens"] = {{{"id", 300}, {"content", "ab"}, {"normalized", true}},
                          {{"id", 301}, {"content", "bc"}, {"normalized", false}}};
  const auto tokenizer = parse_tokenizer_json(file.dump(), "t.json");
  EXPECT_EQ(tokenizer->encode("abc ab"), (std::vector<TokenId>{'a', 301, ' ', 300}));
}

}  // namespace

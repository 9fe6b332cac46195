#include "braid/infer/stop_strings.h"

#include <gtest/gtest.h>

#include "tests/model/golden_models.h"

namespace braid::infer {
namespace {

struct Ending {
  std::string text;
  bool found;
};

// Pushes `text` in pieces of `size` bytes; also checks that what is given out is never taken back.
Ending run(const std::vector<std::string>& strings, const std::string& text, std::size_t size) {
  StopStrings stops(strings);
  std::string out;
  for (std::size_t at = 0; at < text.size() && !stops.found(); at += size)
    out += stops.push(text.substr(at, size));
  if (stops.found()) {
    EXPECT_EQ(stops.push("more"), "");
    EXPECT_EQ(stops.finish(), "");
  } else {
    out += stops.finish();
  }
  return {out, stops.found()};
}

struct Case {
  std::vector<std::string> stops;
  std::string text, want;
  bool found;
};

TEST(StopStrings, CutTheTextHoweverItComes) {
  const Case cases[] = {
      {{}, "some text", "some text", false},  {{"END"}, "some text", "some text", false},
      {{"END"}, "some EN", "some EN", false}, {{"END"}, "some ENENDed END", "some EN", true},
      {{"\n\n"}, "a\nb\n\nc", "a\nb", true},  {{"aab"}, "aaaab", "aa", true},
      {{"abab"}, "ababab", "", true},         {{"abcd", "c"}, "xabcd", "xab", true},  // complete first
      {{"cd", "abcd"}, "xabcd", "x", true},   // complete together: the longest
      {{"bcx", "abcd"}, "abcxx", "a", true},  // a longer start that leads nowhere
      {{"é"}, "caf\xC3\xA9s", "caf", true}};
  for (const auto& c : cases) {
    for (const std::size_t size : {1, 2, 3, 5, 100}) {
      const auto got = run(c.stops, c.text, size);
      EXPECT_EQ(got.text, c.want) << c.text << " in pieces of " << size;
      EXPECT_EQ(got.found, c.found) << c.text << " in pieces of " << size;
    }
  }
}

TEST(StopStrings, GiveOutWhatIsCertainAtOnce) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("abc"), "abc");
  EXPECT_EQ(stops.push("dE"), "d");
  EXPECT_EQ(stops.push("N"), "");
  EXPECT_EQ(stops.push("o"), "ENo");
}

TEST(StopStrings, RefuseTheEmptyString) {
  test::expect_error([] { StopStrings({"a", ""}); }, {"stop string", "empty"});
}

}  // namespace
}  // namespace braid::infer

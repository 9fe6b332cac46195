#include "braid/io/json.h"

#include "braid/io/quote.h"
#include "tests/support/files.h"

namespace {

using namespace braid::io;
using braid::test::message_of;

std::string error_in(const std::string& text) {
  return message_of([&] { parse_json(text, "config.json"); });
}

TEST(Json, ParsesEveryKindOfValue) {
  const std::string text =
      R"({"a":[1,-2,2.5,true,null,{"b":"\u00e9"}],"c":{"d":[[]]},"e":18446744073709551615})";
  EXPECT_EQ(parse_json(text, "x"), nlohmann::json::parse(text));
  EXPECT_EQ(parse_json(" 3 ", "x"), 3);
}

TEST(Json, SyntaxErrorsNameSourceAndByte) {
  EXPECT_HOLDS(error_in("{\"a\": tru}"), "config.json: invalid JSON at byte 10");
  for (const char* text : {"", " ", "{", "[1,]", "{}x", "{\"a\":1,}", "nan", "'a'", "[1 2]", "\"\x01\"",
                           "\"\xff\"", "1e999", "\"\\ud800\"", "// no\n1"}) {
    EXPECT_HOLDS(error_in(text), "config.json: invalid JSON at byte ") << text;
  }
  EXPECT_HOLDS(error_in(std::string("{}\0{", 4)), "byte 3: NUL");
  EXPECT_LT(error_in("[" + std::string(1'000'000, 'x')).size(), 500u);
}

TEST(Json, DuplicateKeysNameThePath) {
  EXPECT_EQ(error_in(R"({"a":1,"a":2})"), "config.json: key 'a' occurs twice in the top level");
  EXPECT_EQ(error_in(R"({"x":{"y":[{"k":1,"k":1}]}})"), "config.json: key 'k' occurs twice in 'x.y'");
  EXPECT_NO_THROW(parse_json(R"([{"k":1},{"k":1}])", "x"));
}

TEST(Json, DepthIsBounded) {
  const auto nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_NO_THROW(parse_json(nested(64), "x"));
  EXPECT_HOLDS(error_in(nested(65)), "more than 64 levels of nesting");
  EXPECT_HOLDS(error_in(std::string(1'000'000, '[')), "more than 64 levels of nesting");
}

TEST(Json, ReadJsonNamesTheFile) {
  const braid::test::TemporaryFolder folder;
  const auto path = braid::test::put(folder / "c.json", "{");
  EXPECT_HOLDS(message_of([&] { read_json(path); }), path.string() + ": invalid JSON");
}

class FieldsTest : public testing::Test {
 protected:
  const nlohmann::json json_ =
      parse_json(R"({"i":5,"big":18446744073709551615,"x":2.5,"b":true,"s":"text","n":null,
      "is":[1,2],"xs":[1,2.5],"ss":["a","b"],"bad":[1,"a"],"o":{"deep":"x"}})",
                 "x");
  const Fields f_{json_, "config.json"};
};

TEST_F(FieldsTest, ReadsTypedValues) {
  EXPECT_EQ(f_.integer("i"), 5);
  EXPECT_EQ(f_.integer("i", 5, 5), 5);
  EXPECT_EQ(f_.number("i"), 5.0);
  EXPECT_EQ(f_.number("x"), 2.5);
  EXPECT_TRUE(f_.boolean("b"));
  EXPECT_EQ(f_.string("s"), "text");
  EXPECT_EQ(f_.integers("is"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(f_.numbers("xs"), (std::vector<double>{1, 2.5}));
  EXPECT_EQ(f_.strings("ss"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(f_.object("o").string("deep"), "x");
}

TEST_F(FieldsTest, AbsentAndNullTakeTheFallback) {
  for (const char* key : {"n", "absent"}) {
    EXPECT_FALSE(f_.has(key));
    EXPECT_EQ(f_.integer_or(key, 7), 7);
    EXPECT_EQ(f_.number_or(key, 0.5), 0.5);
    EXPECT_TRUE(f_.boolean_or(key, true));
    EXPECT_EQ(f_.string_or(key, "d"), "d");
  }
  EXPECT_EQ(f_.integer_or("i", 7), 5);
  EXPECT_HOLDS(message_of([&] { f_.integer_or("s", 7); }), "'s'");  // a wrong type is never a fallback
}

TEST_F(FieldsTest, ErrorsNameSourceFieldFoundAndExpected) {
  const auto error = [&](auto&& read) { return message_of([&] { read(f_); }); };
  EXPECT_EQ(error([](auto& f) { f.integer("absent"); }), "config.json: field 'absent' is missing");
  EXPECT_EQ(error([](auto& f) { f.integer("n"); }), "config.json: field 'n' is null");
  EXPECT_EQ(error([](auto& f) { f.integer("i", 6, 9); }),
            "config.json: field 'i' is the number 5, expected an integer from 6 to 9");
  EXPECT_EQ(error([](auto& f) { f.integer("i", 6); }),
            "config.json: field 'i' is the number 5, expected an integer of at least 6");
  EXPECT_EQ(error([](auto& f) { f.integer("x"); }),
            "config.json: field 'x' is the number 2.5, expected an integer");
  EXPECT_HOLDS(error([](auto& f) { f.integer("big"); }), "18446744073709551615");
  EXPECT_HOLDS(error([](auto& f) { f.integer("b"); }), "'b' is true");
  EXPECT_EQ(error([](auto& f) { f.number("x", 0, 1); }),
            "config.json: field 'x' is the number 2.5, expected a number from 0 to 1");
  EXPECT_HOLDS(error([](auto& f) { f.number("s"); }), "the string 'text', expected a number");
  EXPECT_HOLDS(error([](auto& f) { f.boolean("i"); }), "the number 5, expected true or false");
  EXPECT_HOLDS(error([](auto& f) { f.string("o"); }), "an object, expected a string");
  EXPECT_HOLDS(error([](auto& f) { f.array("o"); }), "an object, expected an array");
  EXPECT_HOLDS(error([](auto& f) { f.object("is"); }), "'is' expected an object, found an array of 2");
  EXPECT_HOLDS(error([](auto& f) { f.integers("bad"); }), "'bad[1]' is the string 'a', expected an integer");
  EXPECT_HOLDS(error([](auto& f) { f.strings("bad"); }), "'bad[0]' is the number 1, expected a string");
  EXPECT_HOLDS(error([](auto& f) { f.object("o").integer("deep"); }), "'o.deep' is the string 'x'");
  EXPECT_HOLDS(error([](auto& f) { f.object("o").reject("deep", "is odd"); }),
               "config.json: field 'o.deep' is odd");
}

TEST_F(FieldsTest, UnknownKeysSuggestTheNearest) {
  const Fields o = f_.object("o");
  EXPECT_NO_THROW(o.allow_only({"deep"}));
  EXPECT_EQ(message_of([&] {
              o.allow_only({"deeep", "other"});
            }),
            "config.json: field 'o.deep' is not known; did you mean 'deeep'?");
  EXPECT_EQ(message_of([&] { o.allow_only({"unrelated"}); }), "config.json: field 'o.deep' is not known");
}

TEST(Fields, TheRootMustBeAnObject) {
  const nlohmann::json json = {1, 2};
  EXPECT_EQ(message_of([&] { Fields(json, "c.json"); }), "c.json: expected an object, found an array of 2");
}

TEST(Quote, StaysOnOneShortLine) {
  EXPECT_EQ(in_quotes("a\nb\xff"), "'a\\x0ab\\xff'");
  EXPECT_EQ(in_quotes(std::string(100, 'x')), "'" + std::string(80, 'x') + "...'");
  EXPECT_EQ(nearest("hiden_size", {"head_size", "hidden_size"}), "hidden_size");
  EXPECT_EQ(nearest("zzzz", {"hidden_size"}), "");
  EXPECT_EQ(nearest("x", {"y"}), "");
}

}  // namespace

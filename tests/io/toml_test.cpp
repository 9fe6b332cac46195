#include "braid/io/toml.h"

#include "tests/support/files.h"

namespace {

using namespace braid::io;
using braid::test::message_of;

toml::table recipe() {
  return parse_toml(R"(name = "run"
[train]
steps = 100
rate = 1e-3
fused = true
widths = [1, 2]
scales = [1, 0.5]
names = ["a", "b"]
[train.schedule]
kind = "cosine"
[[data]]
path = "x"
[[data]]
path = "y"
)",
                    "recipe.toml");
}

TEST(Toml, SyntaxErrorsNameSourceAndLine) {
  EXPECT_HOLDS(message_of([] { parse_toml("a = 1\nb = = 2\n", "r.toml"); }),
               "r.toml:2: invalid TOML at column ");
  EXPECT_HOLDS(message_of([] { parse_toml("a = 1\na = 2\n", "r.toml"); }), "r.toml:2: invalid TOML");
  EXPECT_HOLDS(message_of([] { parse_toml("a = \"\xff\"", "r.toml"); }), "r.toml:1: invalid TOML");
  EXPECT_HOLDS(message_of([] { parse_toml("a = " + std::string(100'000, '['), "r.toml"); }), "invalid TOML");
  const braid::test::TemporaryFolder folder;
  const auto path = braid::test::put(folder / "r.toml", "x");
  EXPECT_HOLDS(message_of([&] { read_toml(path); }), path.string() + ":1: invalid TOML");
}

TEST(TomlFields, ReadsTypedValues) {
  const toml::table table = recipe();
  const TomlFields f(table, "recipe.toml");
  EXPECT_EQ(f.string("name"), "run");
  EXPECT_EQ(f.integer("train.steps", 1), 100);
  EXPECT_EQ(f.number("train.rate"), 1e-3);
  EXPECT_EQ(f.number("train.steps"), 100.0);
  EXPECT_TRUE(f.boolean("train.fused"));
  EXPECT_EQ(f.integers("train.widths"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(f.numbers("train.scales"), (std::vector<double>{1, 0.5}));
  EXPECT_EQ(f.strings("train.names"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(f.table("train").table("schedule").string("kind"), "cosine");
  ASSERT_EQ(f.tables("data").size(), 2u);
  for (const TomlFields& data : f.tables("data")) EXPECT_EQ(data.string("path").size(), 1u);
  EXPECT_EQ(f.tables("data")[1].string("path"), "y");
  EXPECT_EQ(f.integer_or("train.absent", 3), 3);
  EXPECT_EQ(f.string_or("absent.deep", "d"), "d");
  EXPECT_EQ(f.table_or_empty("absent").number_or("x", 0.5), 0.5);
  EXPECT_TRUE(f.tables("absent").empty());
  EXPECT_NO_THROW(f.finish());
}

TEST(TomlFields, ReadsPairsOfIntegers) {
  const toml::table table = parse_toml("a = [[1, 2], [3, 4]]\nb = [[1, 2], [3]]\nc = [[1, 9]]\n", "r.toml");
  const TomlFields f(table, "r.toml");
  EXPECT_EQ(f.integer_pairs("a"), (std::vector<std::array<std::int64_t, 2>>{{1, 2}, {3, 4}}));
  EXPECT_TRUE(f.integer_pairs("absent").empty());
  EXPECT_EQ(message_of([&] { f.integer_pairs("b"); }),
            "r.toml:2: 'b[1]' is an array of 1, expected a pair of integers");
  EXPECT_HOLDS(message_of([&] { f.integer_pairs("c", 0, 8); }), "a pair of integers from 0 to 8");
}

TEST(TomlFields, ErrorsNameFileLineAndDottedKey) {
  const toml::table table = recipe();
  const TomlFields f(table, "recipe.toml");
  const auto error = [&](auto&& read) { return message_of([&] { read(f); }); };
  EXPECT_EQ(error([](auto& t) { t.integer("name"); }),
            "recipe.toml:1: 'name' is the string 'run', expected an integer");
  EXPECT_EQ(error([](auto& t) { t.integer("train.steps", 1, 9); }),
            "recipe.toml:3: 'train.steps' is the number 100, expected an integer from 1 to 9");
  EXPECT_EQ(error([](auto& t) { t.number("train.rate", 1); }),
            "recipe.toml:4: 'train.rate' is the number 0.001, expected a number from 1 to inf");
  EXPECT_HOLDS(error([](auto& t) { t.boolean("train"); }),
               "recipe.toml:2: 'train' is a table, expected true or false");
  EXPECT_HOLDS(error([](auto& t) { t.string("train.fused"); }), "recipe.toml:5: 'train.fused' is true");
  EXPECT_HOLDS(error([](auto& t) { t.integers("train.names"); }),
               "recipe.toml:8: 'train.names[0]' is the string 'a'");
  EXPECT_HOLDS(error([](auto& t) { t.table("train").table("schedule").integer("kind"); }),
               "recipe.toml:10: 'train.schedule.kind'");
  EXPECT_HOLDS(error([](auto& t) { t.integer("name.deep"); }),
               "recipe.toml:1: 'name' is the string 'run', expected a");
  EXPECT_HOLDS(error([](auto& t) { t.tables("data")[1].integer("path"); }), "recipe.toml:14: 'data[1].path'");
  EXPECT_EQ(error([](auto& t) { t.integer("train.missing"); }),
            "recipe.toml: 'train.missing' is missing, expected an integer");
  EXPECT_HOLDS(error([](auto& t) { t.reject("train.rate", "is odd"); }),
               "recipe.toml:4: 'train.rate' is odd");
}

TEST(TomlFields, FinishNamesKeysNobodyAskedFor) {
  const toml::table table =
      parse_toml("nmae = 'x'\n[train]\nsteps = 1\nstpes = 2\n[[data]]\npth = 1\n[trian]\n", "r.toml");
  const TomlFields f(table, "r.toml");
  f.string_or("name", "");
  f.integer("train.steps");
  f.tables("data")[0].string_or("path", "");
  EXPECT_EQ(message_of([&] { f.finish(); }),
            "r.toml: unknown keys: 'data[0].pth' (line 6; did you mean 'data[0].path'?), "
            "'nmae' (line 1; did you mean 'name'?), 'train.stpes' (line 4; did you mean 'train.steps'?), "
            "'trian' (line 7; did you mean 'train'?)");
}

TEST(TomlOverride, SetsValuesOfEveryKind) {
  toml::table table = recipe();
  for (const char* assignment : {"train.steps=7", "train.rate = 2.5", "train.fused=false",
                                 "train.widths=[3, 4]", "name=bare-word", "train.schedule.kind=\"linear\"",
                                 "fresh.deep.key=/some/path", "tag=#5", "ratio=1.5x", "data_path=a b"}) {
    apply_override(table, assignment);
  }
  const TomlFields f(table, "r.toml");
  EXPECT_EQ(f.integer("train.steps"), 7);
  EXPECT_EQ(f.number("train.rate"), 2.5);
  EXPECT_FALSE(f.boolean("train.fused"));
  EXPECT_EQ(f.integers("train.widths"), (std::vector<std::int64_t>{3, 4}));
  EXPECT_EQ(f.string("name"), "bare-word");
  EXPECT_EQ(f.string("train.schedule.kind"), "linear");
  EXPECT_EQ(f.string("fresh.deep.key"), "/some/path");
  EXPECT_EQ(f.string("tag"), "#5");
  EXPECT_EQ(f.string("ratio"), "1.5x");
  EXPECT_EQ(f.string("data_path"), "a b");
  EXPECT_EQ(message_of([&] { f.string("train.steps"); }),
            "r.toml (override): 'train.steps' is the number 7, expected a string");
}

TEST(TomlOverride, RefusesWhatIsNotOneAssignment) {
  toml::table table = recipe();
  const auto error = [&](std::string_view text) { return message_of([&] { apply_override(table, text); }); };
  EXPECT_HOLDS(error("train.steps"), "override 'train.steps': expected KEY=VALUE");
  EXPECT_HOLDS(error("train.steps="), "no value");
  EXPECT_HOLDS(error("a..b=1"), "'' is not a key");
  EXPECT_HOLDS(error("a b=1"), "'a b' is not a key");
  EXPECT_HOLDS(error("name.deep=1"), "'name' is not a table");
  EXPECT_HOLDS(error("train=1"), "'train' is a table");
  EXPECT_HOLDS(error("x=[1, 2"), "not valid TOML");
  EXPECT_HOLDS(error("x=1\ny=2"), "spans lines");
}

}  // namespace

#include "braid/data/mixture.h"

#include <map>
#include <numeric>

#include "braid/data/mix_list.h"
#include "tests/data/fixture.h"

namespace braid::data {
namespace {

class MixtureTest : public FolderTest {
 protected:
  // Instances of 4 tokens, each all of its own index.
  MixtureSource source(const std::string& name, int instances, double ratio,
                       double max_repetition = 1) const {
    std::vector<std::uint16_t> ids;
    for (int i = 0; i < instances; ++i) ids.insert(ids.end(), 4, static_cast<std::uint16_t>(i));
    std::vector<TokenFile> files;
    files.emplace_back(write_ids(name + ".u16", ids), TokenFileOptions{.vocabulary_size = 1000});
    return {name, std::make_unique<FixedLengthDataset>(std::move(files), 4), ratio, max_repetition};
  }
  template <class... Sources>
  static MixtureDataset mix(const MixtureOptions& options, Sources... sources) {
    std::vector<MixtureSource> all;
    (all.push_back(std::move(sources)), ...);
    return MixtureDataset(std::move(all), options);
  }
  // How often each instance of a source comes.
  static std::map<std::int64_t, int> counts(const MixtureDataset& data, std::size_t source) {
    std::map<std::int64_t, int> count;
    for (std::int64_t i = 0; i < data.size(); ++i) {
      const auto [from, instance] = data.origin(i);
      if (from == source) ++count[instance];
    }
    return count;
  }
};

TEST_F(MixtureTest, TokensByRatio) {
  const auto data = mix({.tokens = 80}, source("a", 30, 0.75), source("b", 30, 0.25));
  EXPECT_EQ(data.size(), 20);
  EXPECT_EQ(data.instances_of(0), 15);
  EXPECT_EQ(data.instances_of(1), 5);
  EXPECT_EQ(counts(data, 0).size(), 15u);  // each at most once
  const auto [from, instance] = data.origin(17);
  EXPECT_EQ(from, 1u);
  Instance read;
  data.read(17, read);
  EXPECT_EQ(read.ids, std::vector<TokenId>(4, static_cast<TokenId>(instance)));
}

TEST_F(MixtureTest, AsMuchAsTheBoundsAllow) {
  // a gives at most 10 · 2 = 20 at a half, b at most 30: 40 in all.
  const auto data = mix({}, source("a", 10, 0.5, 2), source("b", 30, 0.5));
  EXPECT_EQ(data.size(), 40);
  for (const auto& [instance, times] : counts(data, 0)) EXPECT_EQ(times, 2) << instance;
  for (const auto& [instance, times] : counts(data, 1)) EXPECT_EQ(times, 1) << instance;
  EXPECT_EQ(mix({}, source("a", 10, 0.1), source("b", 90, 0.9)).size(), 100);  // rounding takes none away
  EXPECT_EQ(mix({}, source("a", 10, 1, 0.5)).size(), 5);
}

// A dataset of any size that holds nothing.
class Huge : public Dataset {
 public:
  explicit Huge(std::int64_t size) : size_(size) {}
  std::int64_t size() const override { return size_; }
  std::int64_t sequence_length() const override { return 8192; }
  void read(std::int64_t, Instance&) const override {}

 private:
  std::int64_t size_;
};

TEST_F(MixtureTest, SharesAreExactInSourcesOfAnySize) {
  const auto huge = [](const char* name, std::int64_t size, double ratio, double repetition = 1) {
    return MixtureSource{name, std::make_unique<Huge>(size), ratio, repetition};
  };
  constexpr std::int64_t kMany = 10'000'000'000;
  const auto whole = mix({}, huge("a", 3 * kMany - 1, 0.3), huge("b", 7 * kMany, 0.7));
  EXPECT_EQ(whole.instances_of(0), 3 * kMany - 1);
  EXPECT_EQ(whole.instances_of(1), 7 * kMany - 3);  // 7/3 of it, rounded down
  const auto given = mix({.tokens = 8192 * kMany + 8191}, huge("a", kMany, 0.1), huge("b", kMany, 0.9));
  EXPECT_EQ(given.instances_of(0), kMany / 10);
  EXPECT_EQ(given.instances_of(1), kMany / 10 * 9);
  EXPECT_EQ(mix({}, huge("a", kMany + 7, 1, 1.1)).size(), 11 * (kMany / 10) + 7);
  // One sequence too many is one too many.
  const auto tokens = 8192 * (kMany + 1);
  expect_error([&] { mix({.tokens = tokens}, huge("a", kMany, 1)); }, {"10000000001 instances wanted"});
  EXPECT_EQ(mix({.tokens = 8192 * kMany}, huge("a", kMany, 1)).size(), kMany);
}

TEST_F(MixtureTest, RepetitionIsEven) {
  const auto data = mix({.tokens = 4 * 25}, source("a", 10, 1, 3));
  int twice = 0;
  for (const auto& [instance, times] : counts(data, 0)) {
    EXPECT_TRUE(times == 2 || times == 3) << instance;
    twice += times == 2;
  }
  EXPECT_EQ(twice, 5);
}

TEST_F(MixtureTest, DependsOnSeedAndNameAlone) {
  const auto chosen = [&](std::uint64_t seed, const char* name) {
    return counts(mix({.tokens = 40, .seed = seed}, source(name, 100, 1)), 0);
  };
  EXPECT_EQ(chosen(1, "a"), chosen(1, "a"));
  EXPECT_NE(chosen(1, "a"), chosen(2, "a"));
  EXPECT_NE(chosen(1, "a"), chosen(1, "b"));
  const auto beside = mix({.tokens = 80, .seed = 1}, source("x", 10, 0.5), source("a", 100, 0.5));
  EXPECT_EQ(counts(beside, 1), chosen(1, "a"));  // not on the sources beside it
}

TEST_F(MixtureTest, ErrorsNameTheSource) {
  expect_error([&] { mix({.tokens = 400}, source("a", 30, 0.9), source("b", 5, 0.1)); },
               {"'a'", "90 instances", "30", "max_repetition"});
  expect_error([&] { mix({}, source("a", 3, 0.5), source("b", 3, 0.4)); }, {"add up to 0.9"});
  expect_error([&] { mix({}, source("a", 3, 0)); }, {"'a'", "ratio is 0"});
  expect_error([&] { mix({}, source("a", 3, 1, 0)); }, {"'a'", "max_repetition is 0"});
  expect_error([&] { mix({.tokens = 40}, source("a", 30, 0.99), source("tiny", 3, 0.01)); },
               {"'tiny'", "less than one instance"});
  expect_error([&] { MixtureDataset({}, {}); }, {"at least one source"});
  const auto data = mix({}, source("a", 3, 1));
  expect_error([&] { data.origin(3); }, {"instance 3"});
}

TEST_F(MixtureTest, MixLists) {
  const auto entries = parse_mix_list("# a comment\nweb, x/{TOKENIZER}/0.npy\r\n\n  y.npy\n", "m.txt",
                                      {.base = "/data", .tokenizer = "org/name"});
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].label, "web");
  EXPECT_EQ(entries[0].path, "/data/x/org/name/0.npy");
  EXPECT_EQ(entries[1].label, "");
  EXPECT_EQ(entries[1].path, "/data/y.npy");
  EXPECT_EQ(parse_mix_list("/a/b.npy", "m.txt", {})[0].path, "/a/b.npy");
  expect_error([] { parse_mix_list("a,{TOKENIZER}/0.npy", "m.txt", {}); }, {"m.txt: line 1", "{TOKENIZER}"});
  expect_error([] { parse_mix_list("\na,\n", "m.txt", {}); }, {"m.txt: line 2", "no path"});
  expect_error([] { parse_mix_list("a,b,c", "m.txt", {}); }, {"m.txt: line 1", "comma"});
  expect_error([] { parse_mix_list("a,s3://b/c.npy", "m.txt", {}); }, {"m.txt: line 1", "not a local file"});
  expect_error([] { parse_mix_list("#\n", "m.txt", {}); }, {"m.txt", "no token file"});
  expect_error([&] { read_mix_list(folder_ / "none.txt", {}); }, {"none.txt"});
}

}  // namespace
}  // namespace braid::data

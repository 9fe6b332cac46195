#include "braid/data/build_token_files.h"

#include <array>
#include <atomic>
#include <cmath>

#include "braid/data/document_bounds.h"
#include "braid/data/text_bytes.h"
#include "tests/data/fixture.h"
#include "tests/support/files.h"

namespace braid::data {
namespace {

class BuildTest : public FolderTest {
 protected:
  BuiltTokenFiles build(const std::vector<fs::path>& inputs, const std::string& output, double fraction = 0.3,
                        std::uint64_t seed = 1) const {
    return build_token_files(inputs, *tokenizer_, folder_ / output,
                             {.validation_fraction = fraction, .seed = seed});
  }
  // Thirty documents in lines [first, last).
  fs::path write_lines(const std::string& name, int first, int last) const {
    std::string lines;
    for (int i = first; i < last; ++i) lines += fmt::format("{{\"text\": \"document {}\"}}\n", i * i);
    return write(name, lines);
  }
  std::string bytes(const fs::path& path) const { return io::read_file(path); }

  std::unique_ptr<text::Tokenizer> tokenizer_ = text::byte_tokenizer();
};

TEST_F(BuildTest, SplitsByDocument) {
  const BuiltTokenFiles built = build({write_lines("a.jsonl", 0, 30)}, "out");
  EXPECT_FALSE(built.reused);
  EXPECT_EQ(built.train.filename(), "train.u16");
  EXPECT_EQ(built.validation.filename(), "validation.u16");
  const TokenFile train(built.train), validation(built.validation);
  train.verify(), validation.verify();
  EXPECT_EQ(built.train_info.documents + built.validation_info.documents, 30);
  EXPECT_GT(built.validation_info.documents, 0);
  EXPECT_EQ(train.size(), built.train_info.text_bytes + built.train_info.documents);  // a byte a token
  std::vector<TokenId> ids(static_cast<std::size_t>(validation.size()));
  validation.read(0, ids);
  std::string want;
  for (int i = 0; i < 30; ++i) {
    const std::string text = fmt::format("document {}", i * i);
    if (in_validation(text, 0.3, 1)) want += text + "<|endoftext|>";
  }
  EXPECT_EQ(tokenizer_->decode(ids), want);
}

TEST_F(BuildTest, SameBytesWhateverIsDoneTwice) {
  const fs::path input = write_lines("a.jsonl", 0, 30);
  const BuiltTokenFiles first = build({input}, "one"), second = build({input}, "two");
  for (const char* name : {"train.u16", "train.json", "validation.u16", "validation.json"}) {
    EXPECT_EQ(bytes(folder_ / "one" / name), bytes(folder_ / "two" / name)) << name;
  }
  EXPECT_FALSE(second.reused);
}

TEST_F(BuildTest, ReusesWhatIsUpToDate) {
  const fs::path input = write_lines("a.jsonl", 0, 30);
  const BuiltTokenFiles first = build({input}, "out");
  const auto written = fs::last_write_time(first.train);
  const fs::path moved = write_lines("elsewhere/b.jsonl", 0, 30);  // another path and time, the same content
  const BuiltTokenFiles again = build({moved}, "out");
  EXPECT_TRUE(again.reused);
  EXPECT_EQ(fs::last_write_time(first.train), written);
  EXPECT_EQ(again.validation, first.validation);
  EXPECT_EQ(format_token_file_info(again.train_info), format_token_file_info(first.train_info));
  EXPECT_EQ(format_token_file_info(again.validation_info), format_token_file_info(first.validation_info));
}

TEST_F(BuildTest, BuildsAgainWhenAnythingDiffers) {
  const fs::path input = write_lines("a.jsonl", 0, 30);
  const auto fresh = [&] { build({input}, "out"); };
  fresh();
  EXPECT_FALSE(build({input}, "out", 0.3, 2).reused) << "seed";
  fresh();
  EXPECT_FALSE(build({input}, "out", 0.4).reused) << "fraction";
  fresh();
  EXPECT_FALSE(build({write_lines("b.jsonl", 0, 31)}, "out").reused) << "content";
  fresh();
  const fs::path train = folder_ / "out" / "train.u16";
  std::string content = bytes(train);
  const std::string good = content;
  content[0] ^= 1;
  io::write_file(train, content);
  EXPECT_FALSE(build({input}, "out").reused) << "damaged tokens";
  EXPECT_EQ(bytes(train), good);
  fs::remove(folder_ / "out" / "validation.json");
  EXPECT_FALSE(build({input}, "out").reused) << "missing sidecar";
  EXPECT_TRUE(build({input}, "out").reused);
  EXPECT_FALSE(build({input}, "out", 0).reused);
  EXPECT_FALSE(fs::exists(folder_ / "out" / "validation.u16")) << "left over from the earlier build";
}

TEST_F(BuildTest, AnotherTokenizerReplacesBothWidths) {
  const fs::path input = write_lines("a.jsonl", 0, 30);
  build({input}, "out");
  const auto golden = text::load_tokenizer(test::golden("tokenizer.json.gz"));
  const BuiltTokenFiles built =
      build_token_files({input}, *golden, folder_ / "out", {.validation_fraction = 0.3, .seed = 1});
  EXPECT_FALSE(built.reused);
  EXPECT_EQ(built.train.filename(), token_file_name("train", golden->vocabulary_size()));
  int token_files = 0;
  for (const auto& entry : fs::directory_iterator(folder_ / "out"))
    token_files += entry.path().extension() != ".json";
  EXPECT_EQ(token_files, 2);
  // The split follows the text alone, so both tokenizers see the same documents.
  const BuiltTokenFiles by_bytes = build({input}, "bytes");
  EXPECT_EQ(by_bytes.train_info.documents, built.train_info.documents);
  EXPECT_EQ(by_bytes.train_info.text_bytes, built.train_info.text_bytes);
  // Byte lengths of the tokens add up to the text.
  const TokenFile train(built.train);
  std::vector<TokenId> ids(static_cast<std::size_t>(train.size()));
  train.read(0, ids);
  EXPECT_EQ(text_bytes(ids, token_bytes(*golden)), built.train_info.text_bytes);
}

TEST_F(BuildTest, OrderAndLayoutDoNotMoveDocumentsBetweenSplits) {
  const fs::path a = write_lines("a.jsonl", 0, 10), b = write_lines("b.jsonl", 10, 30);
  const BuiltTokenFiles forward = build({a, b}, "ab"), backward = build({b, a}, "ba");
  const BuiltTokenFiles joined = build({write_lines("c.jsonl", 0, 30)}, "c");
  EXPECT_EQ(forward.validation_info.content_hash, joined.validation_info.content_hash);
  EXPECT_NE(forward.train_info.content_hash, backward.train_info.content_hash);  // input order is kept
  EXPECT_EQ(forward.validation_info.documents, backward.validation_info.documents);
  EXPECT_EQ(forward.validation_info.text_bytes, backward.validation_info.text_bytes);
}

TEST(InValidation, FractionsAreNestedAndMet) {
  int small = 0, large = 0, other = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::string text = fmt::format("text {}", i);
    const bool in_small = in_validation(text, 0.01, 5), in_large = in_validation(text, 0.1, 5);
    EXPECT_LE(in_small, in_large);
    small += in_small, large += in_large, other += in_large && in_validation(text, 0.1, 6);
  }
  EXPECT_NEAR(small, 200, 57);  // four standard deviations of a binomial count
  EXPECT_NEAR(large, 2000, 170);
  EXPECT_NEAR(other, 200, 57);  // seeds are independent
}

TEST_F(BuildTest, EmptyDocumentsAreLeftOutAndReported) {
  const fs::path input = write("a.jsonl", "{\"text\": \"\"}\n{\"text\": \"ab\"}\n");
  BuildProgress last;
  const BuiltTokenFiles built =
      build_token_files({input}, *tokenizer_, folder_ / "out",
                        {.validation_fraction = 0, .progress = [&](const BuildProgress& p) { last = p; }});
  EXPECT_EQ(built.train_info.documents, 1);
  EXPECT_EQ(last.documents, 1);
  EXPECT_EQ(last.empty_documents, 1);
  EXPECT_EQ(last.text_bytes, 2);
  EXPECT_EQ(last.tokens, 3);
  EXPECT_TRUE(built.validation.empty());
}

TEST_F(BuildTest, ErrorsLeaveNothingBehind) {
  const fs::path one = write("one.txt", "a book");
  expect_error([&] { build({one}, "out", 0.5, 1), build({one}, "out", 0.5, 3); }, {"split", "0.5", "seed"});
  expect_error([&] { build({}, "out"); }, {"no input"});
  expect_error([&] { build({one}, "out", 1); }, {"fraction is 1"});
  expect_error([&] { build({one}, "out", std::nan("")); }, {"fraction is nan"});
  expect_error([&] { build({write("x.csv", "a")}, "out"); }, {"x.csv", ".jsonl"});
  expect_error([&] { build({write("bad.jsonl", "{\"text\": \"a\"}\n{}\n")}, "bad"); },
               {"bad.jsonl", "line 2"});
  EXPECT_TRUE(fs::is_empty(folder_ / "bad"));
}

TEST(TextBytes, CountsWhatIsPredicted) {
  const auto tokenizer = text::byte_tokenizer();
  const std::vector<std::int32_t> table = token_bytes(*tokenizer);
  ASSERT_EQ(table.size(), 259u);
  EXPECT_EQ(table[0xFF], 1);
  EXPECT_EQ(table[256], 0);
  const std::vector<std::int32_t> targets = {65, 256, -1, 66}, unknown = {259};
  EXPECT_EQ(text_bytes(targets, table), 2);
  expect_error([&] { text_bytes(unknown, table); }, {"target 259"});
  EXPECT_DOUBLE_EQ(bits_per_byte(16 * std::log(2.0), 8), 2);
  expect_error([] { bits_per_byte(1, 0); }, {"0 bytes"});
}

TEST_F(BuildTest, ShippedCorpus) {
  const BuiltTokenFiles built = build({test::source_folder() / "data/quickstart.jsonl.zst"}, "out", 0.05, 0);
  EXPECT_EQ(built.train_info.documents + built.validation_info.documents, 372);
  // Bytes and split counted by an independent program.
  EXPECT_EQ(built.train_info.text_bytes + built.validation_info.text_bytes, 11981729);
  EXPECT_EQ(built.validation_info.documents, 15);
  EXPECT_EQ(built.validation_info.text_bytes, 305463);
  EXPECT_EQ(built.train_info.tokens, built.train_info.text_bytes + built.train_info.documents);
}

// Counts what is tokenised, and fails at one document.
class FailingTokenizer : public text::Tokenizer {
 public:
  explicit FailingTokenizer(int fail_at) : fail_at_(fail_at) {}
  std::vector<TokenId> encode(std::string_view text) const override {
    require(++encoded != fail_at_, "killed");
    return bytes_->encode(text);
  }
  std::string decode(std::span<const TokenId> ids) const override { return bytes_->decode(ids); }
  std::int64_t vocabulary_size() const override { return bytes_->vocabulary_size(); }
  std::optional<TokenId> end_of_text() const override { return bytes_->end_of_text(); }
  std::string_view file_name() const override { return bytes_->file_name(); }
  std::string file_content() const override { return bytes_->file_content(); }
  mutable std::atomic<int> encoded = 0;

 private:
  int fail_at_;
  std::unique_ptr<text::Tokenizer> bytes_ = text::byte_tokenizer();
};

constexpr std::array kOutputs = {"train.u16", "train.json", "validation.u16", "validation.json"};

TEST_F(BuildTest, WorkersAndShardsChangeNothing) {
  const std::vector<fs::path> inputs = {write_lines("a.jsonl", 0, 200), write("b.txt", "one text"),
                                        write_lines("c.jsonl", 200, 230)};
  build(inputs, "one");
  for (const int workers : {1, 2, 4}) {
    const auto name = fmt::format("w{}", workers);
    const auto built =
        build_token_files(inputs, *tokenizer_, folder_ / name,
                          {.validation_fraction = 0.3, .seed = 1, .workers = workers, .shard_bytes = 300});
    EXPECT_FALSE(built.reused);
    for (const char* file : kOutputs)
      EXPECT_EQ(bytes(folder_ / name / file), bytes(folder_ / "one" / file)) << workers;
    EXPECT_FALSE(fs::exists(folder_ / name / ".build"));
  }
}

TEST_F(BuildTest, GoesOnBehindTheLastWholePart) {
  const std::vector<fs::path> inputs = {write_lines("a.jsonl", 0, 60), write("b.txt", "one text"),
                                        write_lines("c.jsonl", 60, 100)};
  build(inputs, "whole");
  for (const int stop : {5, 30, 61, 62, 90}) {
    fs::remove_all(folder_ / "out");
    BuildOptions options{.validation_fraction = 0.3, .seed = 1, .shard_bytes = 100};
    const FailingTokenizer killed(stop), rest(-1);
    expect_error([&] { build_token_files(inputs, killed, folder_ / "out", options); }, {"killed"});
    EXPECT_FALSE(fs::exists(folder_ / "out/train.u16"));
    BuildProgress last;
    options.progress = [&](const BuildProgress& p) { last = p; };
    options.workers = 2;
    build_token_files(inputs, rest, folder_ / "out", options);
    // A part of 100 bytes has at most 9 documents here, so no more than those are tokenised again.
    EXPECT_LE(killed.encoded + rest.encoded, 101 + 1 + 9) << stop;
    EXPECT_EQ(last.documents, 101);
    EXPECT_EQ(last.input_bytes, last.total_bytes);
    EXPECT_EQ(last.resumed, stop > 15);
    for (const char* file : kOutputs)
      EXPECT_EQ(bytes(folder_ / "out" / file), bytes(folder_ / "whole" / file)) << stop;
  }
}

TEST_F(BuildTest, GoesOnBehindATextThatFillsAPart) {
  const std::vector<fs::path> inputs = {write("a.txt", std::string(300, 'a')),
                                        write("b.txt", std::string(300, 'b')),
                                        write("c.txt", std::string(300, 'c'))};
  build(inputs, "whole", 0);
  const BuildOptions options{.validation_fraction = 0, .seed = 1, .shard_bytes = 100};
  expect_error([&] { build_token_files(inputs, FailingTokenizer(3), folder_ / "out", options); }, {"killed"});
  const FailingTokenizer rest(-1);
  build_token_files(inputs, rest, folder_ / "out", options);
  EXPECT_EQ(rest.encoded, 1);
  EXPECT_EQ(bytes(folder_ / "out/train.u16"), bytes(folder_ / "whole/train.u16"));
}

TEST_F(BuildTest, PartsOfOtherThingsOrDamagedAreNotUsed) {
  const fs::path input = write_lines("a.jsonl", 0, 60);
  BuildOptions options{.validation_fraction = 0.3, .seed = 1, .shard_bytes = 100};
  const auto interrupt = [&] {
    fs::remove_all(folder_ / "out");
    expect_error([&] { build_token_files({input}, FailingTokenizer(50), folder_ / "out", options); },
                 {"killed"});
    ASSERT_TRUE(fs::exists(folder_ / "out/.build/000001.json"));
  };
  const auto encoded_now = [&](const BuildOptions& o) {
    const FailingTokenizer tokenizer(-1);
    build_token_files({input}, tokenizer, folder_ / "out", o);
    return tokenizer.encoded.load();
  };
  interrupt();
  EXPECT_LT(encoded_now(options), 25);
  interrupt();
  BuildOptions other = options;
  other.seed = 2;
  EXPECT_EQ(encoded_now(other), 60);
  interrupt();
  auto part = bytes(folder_ / "out/.build/000000-train.u16");
  part[4] = static_cast<char>(part[4] ^ 1);
  io::write_file(folder_ / "out/.build/000000-train.u16", part);
  EXPECT_EQ(encoded_now(options), 60);
  build({input}, "whole");
  for (const char* file : kOutputs) EXPECT_EQ(bytes(folder_ / "out" / file), bytes(folder_ / "whole" / file));
}

TEST_F(BuildTest, ErrorsAreTheFirstWhateverTheWorkers) {
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += i == 40 || i == 41 ? "{\"text\": 3}\n" : "{\"text\": \"x\"}\n";
  const auto input = write("a.jsonl", lines);
  for (const int workers : {1, 4}) {
    expect_error(
        [&] {
          build_token_files({input}, *tokenizer_, folder_ / "out", {.workers = workers, .shard_bytes = 20});
        },
        {"a.jsonl: line 41", "text"});
  }
  expect_error([&] { build_token_files({input}, *tokenizer_, folder_ / "out", {.workers = 0}); },
               {"0 workers"});
}

TEST_F(BuildTest, WritesDocumentBounds) {
  const fs::path input = write_lines("a.jsonl", 0, 30);
  BuildOptions options{.validation_fraction = 0.3, .seed = 1, .bounds = true};
  const auto built = build_token_files({input}, *tokenizer_, folder_ / "out", options);
  const auto documents = read_document_bounds(folder_ / "out/train.csv.gz", built.train_info.tokens);
  EXPECT_EQ(static_cast<std::int64_t>(documents.size()), built.train_info.documents);
  EXPECT_EQ(documents.back().end, built.train_info.tokens);
  fs::remove(folder_ / "out/validation.csv.gz");
  EXPECT_TRUE(build_token_files({input}, *tokenizer_, folder_ / "out", options).reused);
  EXPECT_TRUE(fs::exists(folder_ / "out/validation.csv.gz"));
  options.seed = 3, options.bounds = false;  // a list of other tokens must not stay behind
  build_token_files({input}, *tokenizer_, folder_ / "out", options);
  EXPECT_FALSE(fs::exists(folder_ / "out/train.csv.gz"));
}

}  // namespace
}  // namespace braid::data

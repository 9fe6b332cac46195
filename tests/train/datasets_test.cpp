#include "braid/train/datasets.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "braid/data/document_bounds.h"
#include "braid/data/mixture.h"
#include "braid/io/files.h"
#include "tests/support/files.h"

namespace braid::train {
namespace {

class DatasetsTest : public testing::Test {
 protected:
  void put(const std::string& name, std::string_view text) const {
    io::write_file(folder_.path() / name, text);
  }
  // A token file of `documents` documents of `length` bytes each, the end of text included.
  std::string tokens(const std::string& name, int documents, int length) const {
    data::TokenFileWriter writer(folder_.path() / name, data::vocabulary_of(*tokenizer_));
    for (int i = 0; i < documents; ++i)
      writer.append_document(tokenizer_->encode(std::string(static_cast<std::size_t>(length - 1), 'x')),
                             length - 1);
    writer.commit();
    return fmt::format("'{}'", (folder_.path() / name).string());
  }
  DataConfig config(const std::string& toml) const {
    const auto table = io::parse_toml(toml, "r.toml");
    const io::TomlFields fields(table, "r.toml");
    const DataConfig c = read_data_config(fields, folder_.path() / "run");
    fields.finish();
    return c;
  }
  Datasets open(const std::string& toml) {
    notices_.clear();
    return open_datasets(config(toml), 1, *tokenizer_,
                         [&](const std::string& line) { notices_ += line + "\n"; });
  }
  std::string message(const std::string& toml) {
    return test::message_of([&] { open(toml); });
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<text::Tokenizer> tokenizer_ = text::byte_tokenizer();
  std::string notices_;
};

TEST_F(DatasetsTest, PackedAndPadded) {
  const auto a = tokens("a.u16", 10, 5), b = tokens("b.u16", 4, 3);
  const auto d = open("sequence_length = 16\nkind = 'packed'\nvalidation_kind = 'padded'\ntrain = [" + a +
                      "]\nvalidation = [" + b + "]");
  EXPECT_EQ(d.train->size(), 4);
  ASSERT_EQ(d.validation.size(), 1u);
  EXPECT_EQ(d.validation[0].dataset->size(), 4);
  EXPECT_FALSE(d.names_sources());
  EXPECT_HOLDS(notices_, "10 documents in 4 sequences, 21.88 % padding");
}

TEST_F(DatasetsTest, MixtureAndValidationSources) {
  const auto a = tokens("a.u16", 100, 4), b = tokens("b.u16", 10, 4);
  const auto d =
      open("sequence_length = 4\n[[sources]]\nname = 'web'\ntrain = [" + a +
           "]\nratio = 0.75\n[[sources]]\nname = 'math'\ntrain = [" + b +
           "]\nratio = 0.25\nmax_repetition = 2\n[[validation_sources]]\nname = 'books'\nfiles = [" + b +
           "]\n[[validation_sources]]\nname = 'code'\nfiles = [" + a + "]\n");
  EXPECT_EQ(d.train->size(), 80);
  ASSERT_EQ(d.validation.size(), 2u);
  EXPECT_EQ(d.validation[0].name, "books");
  EXPECT_EQ(d.validation_instances(), 110);
  EXPECT_TRUE(d.names_sources());
  EXPECT_EQ(d.contents.size(), 4u);
  EXPECT_HOLDS(notices_, "source 'math': 20 of 80 sequences (25.00 %), each 2.00 times");
}

TEST_F(DatasetsTest, DocumentsOfASourceAreHeldOutUnderItsName) {
  std::string lines;
  for (int i = 0; i < 40; ++i) lines += fmt::format("{{\"text\": \"text number {}\"}}\n", i);
  put("d.jsonl", lines);
  const auto path = fmt::format("'{}'", (folder_.path() / "d.jsonl").string());
  const auto d =
      open("sequence_length = 8\nvalidation_fraction = 0.3\n[[sources]]\nname = 'one'\ndocuments = [" + path +
           "]\nratio = 1\n");
  ASSERT_EQ(d.validation.size(), 1u);
  EXPECT_EQ(d.validation[0].name, "one");
  EXPECT_TRUE(std::filesystem::exists(folder_.path() / "run/data/one/train.u16"));
}

TEST_F(DatasetsTest, PublishedFilesAsTheyAre) {  // .npy by name, flat by content, listed in a mix
  tokens("a.u16", 10, 4);
  std::filesystem::create_directories(folder_.path() / "x");
  std::filesystem::rename(folder_.path() / "a.u16", folder_.path() / "x/part-0.npy");
  put("mix.txt", "web,x/part-0.npy\n");
  const auto list =
      fmt::format("mix = '{0}/mix.txt'\nmix_base = '{0}'\nsequence_length = 4\n", folder_.path().string());
  EXPECT_EQ(open(list).train->size(), 10);  // as wide as the vocabulary asks for
  EXPECT_EQ(open(list + "token_width = 'uint16'").train->size(), 10);
  EXPECT_HOLDS(test::message_of([&] {
                 data::Instance instance;
                 open(list + "token_width = 'uint32'").train->read(0, instance);
               }),
               "outside the vocabulary");
}

TEST_F(DatasetsTest, LabelMasksAreBound) {
  const auto a = tokens("a.u16", 2, 4);
  put("m.mask", std::string("\0\0\1\1\1\1\1\1", 8));
  const auto mask = fmt::format("'{}'", (folder_.path() / "m.mask").string());
  const auto d = open("sequence_length = 8\ntrain = [" + a + "]\nlabel_masks = [" + mask + "]");
  data::Instance instance;
  d.train->read(0, instance);
  EXPECT_EQ(instance.labels[0], 0);
  ASSERT_EQ(d.contents[0].size(), 3u);
  EXPECT_EQ(d.contents[0][2].get<std::string>().size(), 16u);
}

TEST_F(DatasetsTest, FilesWithoutSidecarsAreBound) {
  put("a.u16", std::string("a\0b\0c\0d\0", 8));
  const auto recipe = fmt::format("sequence_length = 4\ntrain = ['{}']", (folder_.path() / "a.u16").string());
  const auto first = open(recipe).contents;
  EXPECT_EQ(open(recipe).contents, first);
  put("a.u16", std::string("a\0b\0c\0e\0", 8));  // as long
  EXPECT_NE(open(recipe).contents, first);
}

TEST_F(DatasetsTest, DocumentBoundsAreBound) {
  const auto recipe = "sequence_length = 8\nkind = 'packed'\ntrain = [" + tokens("a.u16", 4, 4) + "]";
  const auto list = folder_.path() / "a.csv.gz";
  using Bounds = std::vector<data::DocumentBounds>;
  const auto found = open(recipe).contents;
  data::write_document_bounds(list, Bounds{{0, 4}, {4, 8}, {8, 12}, {12, 16}});
  EXPECT_EQ(open(recipe).contents, found);  // the list says what the file says
  data::write_document_bounds(list, Bounds{{0, 3}, {3, 8}, {8, 11}, {11, 16}});
  EXPECT_NE(open(recipe).contents, found);
}

TEST_F(DatasetsTest, FilterAndLoaders) {
  const auto defaults = config("train = ['a.u16']");
  EXPECT_FALSE(defaults.instance_filter);
  EXPECT_EQ(defaults.loaders, 1);
  const auto c = config("train = ['a.u16']\ninstance_filter = true\nfilter_repetitions = 16\nloaders = 3");
  EXPECT_EQ(c.instance_filter->max_period, 13);
  EXPECT_EQ(c.instance_filter->max_repetitions, 16);
  EXPECT_EQ(c.loaders, 3);
}

TEST_F(DatasetsTest, ErrorsNameTheKey) {
  const std::string train = "train = ['a.u16']\n";
  EXPECT_HOLDS(message(""), "documents");
  EXPECT_HOLDS(message(train + "mix = 'm.txt'"), "one only");
  EXPECT_HOLDS(message(train + "mix_base = 'x'"), "mix_base");
  EXPECT_HOLDS(message(train + "mixture_tokens = 5"), "mixture_tokens");
  EXPECT_HOLDS(message(train + "pad_id = 5"), "pad_id");
  EXPECT_HOLDS(message(train + "filter_max_period = 5"), "filter_max_period");
  EXPECT_HOLDS(message(train + "instance_filter = true\nfilter_min_period = 14"),
               "over filter_max_period, 13");
  EXPECT_HOLDS(message(train + "kind = 'padded'"), "'kind' is 'padded'");
  EXPECT_HOLDS(message(train + "label_masks = ['a', 'b']"), "2 masks for 1 token files");
  EXPECT_HOLDS(message(train + "[[sources]]\nname = 'a'\ntrain = ['a.u16']\nratio = 1"),
               "beside [[data.sources]]");
  EXPECT_HOLDS(message("[[sources]]\nname = '../a'\ntrain = ['a.u16']\nratio = 1"), "name");
  EXPECT_HOLDS(message("[[sources]]\nname = 'a'\ntrain = ['a.u16']\nratio = 0.4"), "add up to 0.4");
  EXPECT_HOLDS(message("[[sources]]\nname = 'a'\ntrain = ['a.u16']\nratio = 0.5\n[[sources]]\nname = "
                       "'a'\ntrain = ['a.u16']\nratio = 0.5"),
               "'a' is taken");
  EXPECT_HOLDS(message(train + "[[validation_sources]]\nname = 'v'"), "files");
}

}  // namespace
}  // namespace braid::train

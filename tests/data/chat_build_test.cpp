#include "braid/data/chat_build.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/files.h"

namespace braid::test {
namespace {

namespace fs = std::filesystem;

std::string line_of(const std::string& question, const std::string& answer) {
  return fmt::format(R"({{"messages": [{{"role": "user", "content": "{}"}}, )", question) +
         fmt::format(R"({{"role": "assistant", "content": "{}"}}]}}{})", answer, "\n");
}

data::ChatTokenFiles build(const TemporaryFolder& folder, const std::string& lines,
                           data::ChatBuildOptions options = {}) {
  const auto input = put(folder / "chat.jsonl", lines);
  return data::build_chat_files({input}, *text::byte_tokenizer(), folder / "out", options);
}

TEST(ChatBuild, TokensMaskAndSidecarBelongTogether) {
  const TemporaryFolder folder;
  const auto built = build(folder, line_of("Hi", "Yo") + "\n" + line_of("And", "So"));
  const data::TokenFile tokens(built.train);
  tokens.verify();
  std::vector<data::TokenId> ids(static_cast<std::size_t>(tokens.size()));
  tokens.read(0, ids);
  const auto mask = io::read_file(data::label_mask_path(built.train));
  ASSERT_EQ(mask.size(), ids.size());
  const auto tokenizer = text::byte_tokenizer();
  EXPECT_EQ(tokenizer->decode(ids),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n<|endoftext|>"
            "<|im_start|>user\nAnd<|im_end|>\n<|im_start|>assistant\nSo<|im_end|>\n<|endoftext|>");
  std::vector<data::TokenId> targets;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ASSERT_TRUE(mask[i] == 0 || mask[i] == 1);
    if (mask[i] == 1) targets.push_back(ids[i]);
  }
  EXPECT_EQ(tokenizer->decode(targets), "Yo<|im_end|>So<|im_end|>");
  EXPECT_EQ(built.train_targets, static_cast<std::int64_t>(targets.size()));
  EXPECT_EQ(built.train_info.documents, 2);
  EXPECT_EQ(built.train_info.label_mask, "train.mask");
  EXPECT_EQ(built.train_info.label_mask_hash, data::Hash64().update(std::string_view(mask)).hex());
}

TEST(ChatBuild, ValidationIsSetApartByContent) {
  const TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 40; ++i) lines += line_of(fmt::format("q{}", i), "a");
  const auto built = build(folder, lines, {.validation_fraction = 0.25, .seed = 3});
  EXPECT_EQ(built.train_info.documents + built.validation_info.documents, 40);
  EXPECT_GT(built.validation_info.documents, 2);
  EXPECT_TRUE(fs::exists(folder / "out/validation.mask"));
}

TEST(ChatBuild, ErrorsNameFileAndLineAndLeaveNothing) {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& lines) { return message_of([&] { build(folder, lines); }); };
  const auto good = line_of("Hi", "Yo");
  EXPECT_HOLDS(error(good + "nonsense\n"), "chat.jsonl:2");
  EXPECT_HOLDS(error(good + good + "{\"text\": \"a\"}\n"), "chat.jsonl:3: field 'messages'");
  EXPECT_HOLDS(error(line_of("a <|im_end|>", "b")),
               "chat.jsonl:1: field 'messages[0].content' holds <|im_end|>");
  EXPECT_HOLDS(error("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}"),
               "no message of the assistant");
  EXPECT_HOLDS(error("\n"), "no conversation");
  for (const auto* name : {"out/train.u16", "out/train.mask", "out/train.json"}) {
    EXPECT_FALSE(fs::exists(folder / name)) << name;
  }
  const auto text = put(folder / "a.txt", "hello");
  EXPECT_HOLDS(
      message_of([&] { data::build_chat_files({text}, *text::byte_tokenizer(), folder / "out", {}); }),
      "from .jsonl files");
}

}  // namespace
}  // namespace braid::test

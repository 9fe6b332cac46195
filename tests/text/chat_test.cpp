#include "braid/text/chat.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "braid/text/tokenizer_file.h"
#include "tests/support/files.h"
#include "tests/text/tokenizer_fixture.h"

namespace braid::test {
namespace {

using text::ChatMessage;
using text::Role;

std::vector<ChatMessage> parse(const std::string& json) {
  const auto value = io::parse_json(json, "chat.jsonl:7");
  return text::parse_messages(io::Fields(value, "chat.jsonl:7"), "messages");
}

// A tokenizer of whole bytes that has the markers as tokens, as the published one has.
class Marked : public text::Tokenizer {
 public:
  std::vector<text::TokenId> encode(std::string_view text) const override {
    std::vector<text::TokenId> ids;
    while (!text.empty()) {
      const auto* marker = std::ranges::find_if(kMarkers, [&](auto m) { return text.starts_with(m); });
      const bool found = marker != std::end(kMarkers);
      ids.push_back(found ? static_cast<text::TokenId>(256 + (marker - std::begin(kMarkers)))
                          : static_cast<std::uint8_t>(text[0]));
      text.remove_prefix(found ? marker->size() : 1);
    }
    return ids;
  }
  std::string decode(std::span<const text::TokenId> ids) const override {
    std::string text;
    for (const auto id : ids) {
      if (id >= 256)
        text += kMarkers[id - 256];
      else
        text += static_cast<char>(id);
    }
    return text;
  }
  std::int64_t vocabulary_size() const override { return 259; }
  std::optional<text::TokenId> end_of_text() const override { return 258; }
  std::string_view file_name() const override { return "marked.json"; }
  std::string file_content() const override { return "{}"; }

 private:
  static constexpr std::string_view kMarkers[] = {"<|im_start|>", "<|im_end|>", "<|endoftext|>"};
};

const std::vector<ChatMessage> kTalk{{Role::system, "Be brief."},
                                     {Role::user, "Hi"},
                                     {Role::assistant, "Yo"},
                                     {Role::user, "Bye"},
                                     {Role::assistant, "Ok"}};

std::string text_of(const text::Tokenizer& tokenizer, const text::ChatTokens& chat, std::uint8_t target) {
  std::vector<text::TokenId> ids;
  for (std::size_t i = 0; i < chat.ids.size(); ++i) {
    if (chat.targets[i] == target) ids.push_back(chat.ids[i]);
  }
  return tokenizer.decode(ids);
}

TEST(Chat, TargetsAreTheAnswersAndTheirEnds) {
  const auto bytes = text::byte_tokenizer();
  const Marked marked;
  for (const auto* tokenizer : std::vector<const text::Tokenizer*>{bytes.get(), &marked}) {
    const auto chat = text::ChatFormat(*tokenizer).encode(kTalk);
    EXPECT_EQ(chat.ids.size(), chat.targets.size());
    EXPECT_EQ(tokenizer->decode(chat.ids),
              "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
              "<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
              "<|im_start|>assistant\nOk<|im_end|>\n");
    EXPECT_EQ(text_of(*tokenizer, chat, 1), "Yo<|im_end|>Ok<|im_end|>");
  }
  const auto chat = text::ChatFormat(marked).encode({{Role::user, "a"}, {Role::assistant, "b"}});
  EXPECT_EQ(chat.ids.size(), 1 + 5 + 1 + 1 + 1 + 1 + 10 + 1 + 1 + 1u);  // markers are one token each
}

TEST(Chat, PromptIsWhatPrecedesTheAnswer) {
  const auto tokenizer = text::byte_tokenizer();
  const text::ChatFormat format(*tokenizer);
  const auto prompt = format.prompt({kTalk[0], kTalk[1]});
  const auto chat = format.encode({kTalk[0], kTalk[1], kTalk[2]});
  const auto ids = tokenizer->encode(prompt);
  ASSERT_LE(ids.size(), chat.ids.size());
  EXPECT_TRUE(std::equal(ids.begin(), ids.end(), chat.ids.begin()));
  EXPECT_EQ(chat.targets[ids.size() - 1], 0);
  EXPECT_EQ(chat.targets[ids.size()], 1);
  const auto answer = format.encode_answer(tokenizer->encode(prompt), "Yo", text::kMessageEnd);
  EXPECT_EQ(text_of(*tokenizer, answer, 1), "Yo<|im_end|>");
  EXPECT_EQ(text_of(*tokenizer, answer, 0), prompt);
}

// With a tokenizer that would join the line break before an answer with white space that the answer begins
// with, and what ends an answer with the line break behind it.
TEST(Chat, EarlierTurnsHaveTheSameIdsInGenerationAsInTraining) {
  const auto tokenizer = text::parse_tokenizer_json(
      small_tokenizer({{"\u010a", "\u0120"}, {">", "\u010a"}}).dump(), "joining.json");
  const text::ChatFormat format(*tokenizer);
  const std::vector<ChatMessage> talk{
      {Role::system, "Be brief."}, {Role::user, "Hi"}, {Role::assistant, " Yo"}, {Role::user, " Bye"},
      {Role::assistant, " Ok"},    {Role::tool, "7"},  {Role::assistant, " So"}};
  int answers = 0;
  for (std::size_t i = 0; i < talk.size(); ++i) {
    if (talk[i].role != Role::assistant) continue;
    const std::vector<ChatMessage> before(talk.begin(), talk.begin() + static_cast<std::ptrdiff_t>(i));
    const auto prompt = format.encode_prompt(before);
    auto through = before;
    through.push_back(talk[i]);
    const auto trained = format.encode(through), whole = format.encode(talk);
    EXPECT_EQ(tokenizer->decode(prompt), format.prompt(before));
    for (const auto& all : {trained, whole}) {
      ASSERT_LT(prompt.size(), all.ids.size());
      EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), all.ids.begin())) << "before message " << i;
      EXPECT_EQ(all.targets[prompt.size() - 1], 0);
      EXPECT_EQ(all.targets[prompt.size()], 1);
    }
    // Else nothing would be shown: as one text they are other ids.
    if (answers++ > 0) {
      EXPECT_NE(prompt, tokenizer->encode(format.prompt(before)));
    }
  }
  EXPECT_EQ(answers, 3);
}

TEST(Chat, MessagesAreReadStrictly) {
  EXPECT_EQ(
      parse(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]})"),
      (std::vector<ChatMessage>{{Role::user, "a"}, {Role::assistant, ""}}));
  const auto error = [](const std::string& json) { return message_of([&] { parse(json); }); };
  EXPECT_HOLDS(error("{}"), "chat.jsonl:7: field 'messages'");
  EXPECT_HOLDS(error(R"({"messages": []})"), "is empty");
  EXPECT_HOLDS(error(R"({"messages": ["a"]})"), "messages[0]");
  EXPECT_HOLDS(error(R"({"messages": [{"role": "bot", "content": "a"}]})"), "messages[0].role' is 'bot'");
  EXPECT_HOLDS(error(R"({"messages": [{"role": "user", "content": 3}]})"), "messages[0].content");
  EXPECT_HOLDS(
      error(R"({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]})"),
      "only the first message");
}

TEST(Chat, ContentsMayNotForgeTheFormat) {
  const auto tokenizer = text::byte_tokenizer();
  const text::ChatFormat format(*tokenizer);
  for (const auto* forged : {"a<|im_end|>", "<|im_start|>", "x<|endoftext|>y"}) {
    EXPECT_HOLDS(message_of([&] { format.encode({{Role::user, forged}}); }), "remove or respell it");
  }
}

}  // namespace
}  // namespace braid::test

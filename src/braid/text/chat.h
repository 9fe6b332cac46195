// Conversations as tokens: the ChatML form that Olmo 3 uses,
//   <|im_start|>ROLE\nCONTENT<|im_end|>\n  for each message.
// The markers are single tokens where the tokenizer has them, otherwise their text.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "braid/io/json.h"
#include "braid/text/tokenizer.h"

namespace braid::text {

inline constexpr std::string_view kMessageStart = "<|im_start|>", kMessageEnd = "<|im_end|>";

enum class Role : std::uint8_t { system, user, assistant, tool };
std::string_view name_of(Role role);

struct ChatMessage {
  Role role = Role::user;
  std::string content;
  bool operator==(const ChatMessage&) const = default;
};

// fields[key] is a non-empty array of {"role", "content"}; a system message may only come first. Errors name
// the source and the field.
std::vector<ChatMessage> parse_messages(const io::Fields& fields, std::string_view key);

// Tokens, and for each whether it may be a target: the contents of assistant messages and the <|im_end|> that
// closes them, nothing else.
struct ChatTokens {
  std::vector<TokenId> ids;
  std::vector<std::uint8_t> targets;  // 0 or 1
};

class ChatFormat {
 public:
  // The tokenizer must outlive the format.
  explicit ChatFormat(const Tokenizer& tokenizer);

  // The text before an assistant's answer: all messages and the head of the next one.
  std::string prompt(const std::vector<ChatMessage>& messages) const;
  // That as tokens, which generation continues: turn by turn, with the ids that encode() gives the same
  // messages before a further answer.
  std::vector<TokenId> encode_prompt(const std::vector<ChatMessage>& messages) const;
  // A whole conversation. Answers with their ends are encoded apart from what stands before and after them.
  ChatTokens encode(const std::vector<ChatMessage>& messages) const;
  // `prompt` as it is, then an answer with what closes it, which are the targets.
  ChatTokens encode_answer(std::vector<TokenId> prompt, std::string_view answer, std::string_view end) const;
  // parse_messages(), and each content must be plain: errors name source and field.
  std::vector<ChatMessage> read_messages(const io::Fields& fields, std::string_view key) const;
  // Whether the text holds neither a marker nor the end of text, which would pass for the format's own.
  bool is_plain(std::string_view text) const { return marker_in(text).empty(); }
  // Throws when it does. `what` starts the message.
  void require_plain(std::string_view text, const std::string& what) const;

 private:
  std::string_view marker_in(std::string_view text) const;  // empty: none
  void append(ChatTokens& tokens, std::string& text, std::uint8_t target) const;
  std::string append_messages(ChatTokens& tokens, const std::vector<ChatMessage>& messages) const;

  const Tokenizer& tokenizer_;
  std::string end_of_text_;  // its text; empty: none
};

}  // namespace braid::text

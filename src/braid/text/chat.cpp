#include "braid/text/chat.h"

#include <array>
#include <nlohmann/json.hpp>

namespace braid::text {
namespace {

constexpr std::array kRoles = {Role::system, Role::user, Role::assistant, Role::tool};

Role parse_role(const io::Fields& message) {
  const auto name = message.string("role");
  for (const auto role : kRoles) {
    if (name == name_of(role)) return role;
  }
  message.reject("role", fmt::format("is '{}', expected system, user, assistant or tool", name));
}

void append_head(std::string& text, Role role) {
  text += kMessageStart;
  text += name_of(role);
  text += '\n';
}

}  // namespace

std::string_view name_of(Role role) {
  switch (role) {
    case Role::system:
      return "system";
    case Role::user:
      return "user";
    case Role::assistant:
      return "assistant";
    case Role::tool:
      return "tool";
  }
  return "";
}

std::vector<ChatMessage> parse_messages(const io::Fields& fields, std::string_view key) {
  const auto& array = fields.array(key);
  if (array.empty()) fields.reject(key, "is empty, expected at least one message");
  std::vector<ChatMessage> messages;
  for (std::size_t i = 0; i < array.size(); ++i) {
    const io::Fields message(array[i], fields.source(), fmt::format("{}[{}]", fields.path_of(key), i));
    messages.push_back({parse_role(message), message.string("content")});
    if (messages.back().role == Role::system && i != 0) {
      message.reject("role", "is 'system', which only the first message may be");
    }
  }
  return messages;
}

ChatFormat::ChatFormat(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  if (const auto end = tokenizer.end_of_text()) end_of_text_ = tokenizer.decode(std::span(&*end, 1));
}

std::string_view ChatFormat::marker_in(std::string_view text) const {
  for (const std::string_view marker : {kMessageStart, kMessageEnd, std::string_view(end_of_text_)}) {
    if (!marker.empty() && text.find(marker) != text.npos) return marker;
  }
  return {};
}

void ChatFormat::require_plain(std::string_view text, const std::string& what) const {
  const auto marker = marker_in(text);
  require(marker.empty(), "{} holds {}, which would pass for the chat format's own; remove or respell it",
          what, marker);
}

std::vector<ChatMessage> ChatFormat::read_messages(const io::Fields& fields, std::string_view key) const {
  auto messages = parse_messages(fields, key);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    require_plain(messages[i].content,
                  fmt::format("{}: field '{}[{}].content'", fields.source(), fields.path_of(key), i));
  }
  return messages;
}

std::string ChatFormat::prompt(const std::vector<ChatMessage>& messages) const {
  std::string text;
  for (const auto& [role, content] : messages) {
    append_head(text, role);
    text += content;
    text += kMessageEnd;
    text += '\n';
  }
  append_head(text, Role::assistant);
  return text;
}

// Moves the text into the tokens.
void ChatFormat::append(ChatTokens& tokens, std::string& text, std::uint8_t target) const {
  const auto ids = tokenizer_.encode(text);
  tokens.ids.insert(tokens.ids.end(), ids.begin(), ids.end());
  tokens.targets.resize(tokens.ids.size(), target);
  text.clear();
}

// Returns the text since the last answer, which what follows may still be a part of.
std::string ChatFormat::append_messages(ChatTokens& tokens, const std::vector<ChatMessage>& messages) const {
  std::string text;
  for (const auto& [role, content] : messages) {
    require_plain(content, fmt::format("the content of a message of '{}'", name_of(role)));
    const bool answer = role == Role::assistant;
    append_head(text, role);
    if (answer) append(tokens, text, 0);
    text += content;
    text += kMessageEnd;
    if (answer) append(tokens, text, 1);
    text += '\n';
  }
  return text;
}

ChatTokens ChatFormat::encode(const std::vector<ChatMessage>& messages) const {
  ChatTokens tokens;
  auto text = append_messages(tokens, messages);
  append(tokens, text, 0);
  return tokens;
}

std::vector<TokenId> ChatFormat::encode_prompt(const std::vector<ChatMessage>& messages) const {
  ChatTokens tokens;
  auto text = append_messages(tokens, messages);
  append_head(text, Role::assistant);
  append(tokens, text, 0);
  return std::move(tokens.ids);
}

ChatTokens ChatFormat::encode_answer(std::vector<TokenId> prompt, std::string_view answer,
                                     std::string_view end) const {
  ChatTokens tokens{.ids = std::move(prompt), .targets = {}};
  tokens.targets.assign(tokens.ids.size(), 0);
  for (const auto id : tokenizer_.encode(std::string(answer) + std::string(end))) {
    tokens.ids.push_back(id);
    tokens.targets.push_back(1);
  }
  return tokens;
}

}  // namespace braid::text

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

void ChatFormat::require_plain(std::string_view text, const std::string& what) const {
  for (const std::string_view marker : {kMessageStart, kMessageEnd, std::string_view(end_of_text_)}) {
    require(marker.empty() || text.find(marker) == text.npos,
            "{} holds {}, which would pass for the chat format's own; remove or respell it", what, marker);
  }
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

ChatTokens ChatFormat::encode(const std::vector<ChatMessage>& messages) const {
  ChatTokens tokens;
  std::string text;  // since the last answer
  const auto append = [&](std::uint8_t target) {
    for (const auto id : tokenizer_.encode(text)) {
      tokens.ids.push_back(id);
      tokens.targets.push_back(target);
    }
    text.clear();
  };
  for (const auto& [role, content] : messages) {
    require_plain(content, fmt::format("the content of a message of '{}'", name_of(role)));
    const bool answer = role == Role::assistant;
    append_head(text, role);
    if (answer) append(0);
    text += content;
    text += kMessageEnd;
    if (answer) append(1);
    text += '\n';
  }
  append(0);
  return tokens;
}

ChatTokens ChatFormat::encode_answer(std::string_view prompt, std::string_view answer,
                                     std::string_view end) const {
  ChatTokens tokens{.ids = tokenizer_.encode(prompt), .targets = {}};
  tokens.targets.assign(tokens.ids.size(), 0);
  for (const auto id : tokenizer_.encode(std::string(answer) + std::string(end))) {
    tokens.ids.push_back(id);
    tokens.targets.push_back(1);
  }
  return tokens;
}

}  // namespace braid::text

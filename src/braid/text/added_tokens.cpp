#include "braid/text/added_tokens.h"

#include <algorithm>

#include "braid/text/utf8.h"

namespace braid::text {
namespace {

std::size_t white_space_at_start(std::string_view text) {
  std::size_t at = 0;
  for (;;) {
    const Character c = first_character(text.substr(at));
    if (c.length == 0 || !is_white_space(c.code)) return at;
    at += c.length;
  }
}

std::size_t white_space_at_end(std::string_view text) {
  const std::size_t size = text.size();
  for (;;) {
    const Character c = last_character(text);
    if (c.length == 0 || !is_white_space(c.code)) return size - text.size();
    text.remove_suffix(c.length);
  }
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), token_at_{-1} {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    std::uint32_t node = 0;
    for (const char c : tokens_[i].content) {
      const std::uint64_t edge = (std::uint64_t{node} << 8) | static_cast<std::uint8_t>(c);
      const auto [it, fresh] = trie_.emplace(edge, static_cast<std::uint32_t>(token_at_.size()));
      if (fresh) token_at_.push_back(-1);
      node = it->second;
    }
    token_at_[node] = static_cast<std::int32_t>(i);
    starts_[static_cast<std::uint8_t>(tokens_[i].content[0])] = true;
    // \w of the engine that the format is defined by (Rust's regex, Unicode TR18).
    if (tokens_[i].single_word && !word_) {
      word_.emplace("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]", "word characters");
    }
  }
}

const AddedToken* AddedTokenFinder::longest_at(std::string_view text) const {
  const AddedToken* best = nullptr;
  std::uint64_t node = 0;
  for (const char c : text) {
    const auto it = trie_.find((node << 8) | static_cast<std::uint8_t>(c));
    if (it == trie_.end()) break;
    node = it->second;
    if (token_at_[node] >= 0) best = &tokens_[static_cast<std::size_t>(token_at_[node])];
  }
  return best;
}

bool AddedTokenFinder::touches_word(std::string_view before, std::string_view after,
                                    Regex::Scratch& scratch) const {
  const auto is_word = [&](std::string_view character) {
    return !character.empty() && word_->find(character, 0, scratch).has_value();
  };
  return is_word(before.substr(before.size() - last_character(before).length)) ||
         is_word(after.substr(0, first_character(after).length));
}

void AddedTokenFinder::split(std::string_view text, Regex::Scratch& scratch,
                             std::vector<Segment>& segments) const {
  std::size_t covered = 0;  // everything before this is in a segment
  for (std::size_t at = 0; at < text.size();) {
    const AddedToken* token =
        starts_[static_cast<std::uint8_t>(text[at])] ? longest_at(text.substr(at)) : nullptr;
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + token->content.size();
    at = end;
    if (token->single_word && touches_word(text.substr(0, begin), text.substr(end), scratch)) continue;
    if (token->lstrip && begin > covered) begin -= white_space_at_end(text.substr(covered, begin - covered));
    if (token->rstrip) end += white_space_at_start(text.substr(end));
    if (begin > covered) segments.push_back({text.substr(covered, begin - covered), -1});
    segments.push_back({{}, token->id});
    covered = std::max(covered, end);
  }
  if (covered < text.size()) segments.push_back({text.substr(covered), -1});
}

}  // namespace braid::text

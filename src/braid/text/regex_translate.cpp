#include <algorithm>

#include "braid/core/error.h"
#include "braid/io/quote.h"
#include "braid/text/regex.h"

namespace braid::text {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Copies a pattern, replacing what the two engines read differently and refusing what it cannot replace.
class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape();
      } else if (c == '[') {
        character_class();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    fail("{}: {} at byte {} of the regular expression {} is not supported", where_, what, at_,
         io::in_quotes(pattern_));
  }
  char peek(std::size_t offset) const {
    return at_ + offset < pattern_.size() ? pattern_[at_ + offset] : '\0';
  }
  void copy(std::size_t n) {
    out_ += pattern_.substr(at_, n);
    at_ = std::min(at_ + n, pattern_.size());
  }
  void replace(std::size_t n, std::string_view with) {
    out_ += with;
    at_ += n;
  }

  void escape() {
    if (at_ + 1 == pattern_.size()) refuse("an open escape");
    const char c = peek(1);
    if (c == 's') return replace(2, "\\p{White_Space}");  // PCRE2's \s also takes U+180E
    if (c == 'S') return replace(2, "\\P{White_Space}");
    if (c == 'v') return replace(2, "\\x{0b}");  // PCRE2: any vertical space
    if (c == 'u') return unicode_escape();
    if (c == 'p' || c == 'P') {
      const auto close = pattern_.find('}', at_);
      if (peek(2) != '{' || close == pattern_.npos) refuse("a property without braces");
      return copy(close + 1 - at_);
    }
    if (c == 'x' && peek(2) == '{') {
      const auto close = pattern_.find('}', at_);
      if (close == pattern_.npos) refuse("an open escape");
      return copy(close + 1 - at_);
    }
    // \w, \b, \h, \R, \X, \K and others differ in meaning between the engines.
    const bool same = std::string_view("dDnrtfaex").find(c) != std::string_view::npos;
    if (!same && (is_letter(c) || is_digit(c))) refuse(std::string("the escape \\") + c);
    copy(2);
  }

  // \uHHHH is \x{HHHH} in PCRE2.
  void unicode_escape() {
    for (std::size_t i = 2; i < 6; ++i) {
      if (!is_hex(peek(i))) refuse("the escape \\u without four digits");
    }
    replace(6, "\\x{" + std::string(pattern_.substr(at_ + 2, 4)) + "}");
  }

  // [...]: Oniguruma nests classes and intersects them with &&, PCRE2 does not.
  void character_class() {
    copy(1);
    if (peek(0) == '^') copy(1);
    if (peek(0) == ']') refuse("']' as the first member of a class");
    while (at_ < pattern_.size() && peek(0) != ']') {
      if (peek(0) == '[') refuse("a class within a class");
      if (peek(0) == '&' && peek(1) == '&') refuse("an intersection of classes");
      if (peek(0) == '\\') {
        escape();
      } else {
        copy(1);
      }
    }
    copy(1);
  }

  // Groups: (?: (?= (?! (?<= (?<! (?> and the flag i.
  void group() {
    if (peek(1) == '*') refuse("a verb");
    if (peek(1) != '?') return copy(1);
    for (const std::string_view known :
         {"?:", "?=", "?!", "?<=", "?<!", "?>", "?i)", "?i:", "?-i)", "?-i:"}) {
      if (pattern_.substr(at_ + 1, known.size()) == known) return copy(known.size() + 1);
    }
    refuse("this kind of group");
  }

  // {n,m}: a '+' after it is possessive in PCRE2 but a second repeat in Oniguruma, and {,m} is plain text in
  // PCRE2.
  void interval() {
    std::size_t n = 1;
    while (is_digit(peek(n))) ++n;
    if (n == 1) refuse("'{' without a number");
    if (peek(n) == ',') ++n;
    while (is_digit(peek(n))) ++n;
    if (peek(n) != '}') refuse("'{' that is not a repeat count");
    if (peek(n + 1) == '+') refuse("'+' after a repeat count");
    copy(n + 1);
  }

  std::string_view pattern_;
  const std::string& where_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_pattern(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

}  // namespace braid::text

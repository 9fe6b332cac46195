// Regular expressions of tokenizer.json files: PCRE2 with the meaning that the format's own engine
// (Oniguruma, Ruby syntax) gives them. Constructs on which the two differ and that braid does not translate
// are errors.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace braid::text {

struct Span {
  std::size_t begin = 0, end = 0;
};

// The PCRE2 pattern that means what `pattern` means in Oniguruma. `where` names the pattern in errors.
std::string translate_pattern(std::string_view pattern, const std::string& where);

// A compiled pattern; const use is safe from several threads.
class Regex {
 public:
  Regex(std::string_view pattern, const std::string& where);
  static Regex literal(std::string_view text, const std::string& where);

  // Memory for matching, one per thread. Creating one costs microseconds; keep it over a document.
  class Scratch {
   public:
    Scratch();

   private:
    friend class Regex;
    struct State;
    std::shared_ptr<State> state_;
  };
  // The first match at or after byte `start` of `text`, which must be well-formed UTF-8. A match that needs
  // more than a bounded number of steps is an error.
  std::optional<Span> find(std::string_view text, std::size_t start, Scratch& scratch) const;

 private:
  Regex(std::string_view pattern, std::uint32_t options, const std::string& where);
  std::shared_ptr<const void> code_;  // pcre2_code
  std::string where_;
};

}  // namespace braid::text

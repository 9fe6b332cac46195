// Ends a text at the first stop string, however the text is cut into pieces.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace braid::infer {

// Of several stop strings the one that is complete first ends the text; of those complete at the same byte,
// the longest. Text that may still become part of a stop string is held back.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> strings);  // empty strings are an error

  // Appends a piece and returns what is now certain to precede any stop string.
  std::string push(std::string_view piece);
  std::string finish();  // what was held back, when the text ends otherwise
  bool found() const { return found_; }

 private:
  std::vector<std::string> strings_;
  std::string held_;
  bool found_ = false;
};

}  // namespace braid::infer

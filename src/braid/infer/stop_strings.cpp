#include "braid/infer/stop_strings.h"

#include <algorithm>
#include <utility>

#include "braid/core/error.h"

namespace braid::infer {

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
  for (const auto& s : strings_) require(!s.empty(), "a stop string is empty");
}

std::string StopStrings::push(std::string_view piece) {
  if (found_) return {};
  std::string certain;
  for (const char byte : piece) {
    held_ += byte;
    std::size_t stop = 0, keep = 0;  // lengths of the tail that is a stop string, or the start of one
    for (const auto& s : strings_) {
      if (held_.ends_with(s)) stop = std::max(stop, s.size());
      for (auto n = std::min(held_.size(), s.size()); n > keep; --n) {
        if (held_.ends_with(std::string_view(s).substr(0, n))) keep = n;
      }
    }
    if (stop != 0) {
      certain.append(held_, 0, held_.size() - stop);
      held_.clear();
      found_ = true;
      return certain;
    }
    certain.append(held_, 0, held_.size() - keep);
    held_.erase(0, held_.size() - keep);
  }
  return certain;
}

std::string StopStrings::finish() { return std::exchange(held_, {}); }

}  // namespace braid::infer

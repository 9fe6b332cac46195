// Foreign text inside one-line error messages.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace braid::io {

// 'text' on one line: control and non-ASCII bytes escaped as \xHH, cut after 80 bytes.
std::string in_quotes(std::string_view text);
// The member of `known` with the fewest edits to `word`, if it is close enough to be a typing error; else
// empty.
std::string nearest(std::string_view word, const std::vector<std::string>& known);
// "; did you mean 'x'?" or empty.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

}  // namespace braid::io

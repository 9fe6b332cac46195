#include "braid/lab/problems/program.h"

#include <algorithm>

#include "braid/core/error.h"

namespace braid::lab {

void Program::add(std::initializer_list<std::int32_t> more) {
  for (const auto word : more) words.push_back(word);
}

Line& Program::end_line(std::int64_t first_token, std::int64_t end_token) {
  const auto begin = lines.empty() ? 0 : lines.back().end;
  return lines.emplace_back(Line{.begin = begin,
                                 .end = static_cast<std::int64_t>(words.size()),
                                 .first_token = first_token,
                                 .end_token = end_token});
}

Program read_code(std::span<const std::int32_t> ids) {
  Program program;
  const auto tokens = static_cast<std::int64_t>(ids.size());
  for (std::int64_t begin = 1; begin < tokens;) {
    const auto rest = ids.subspan(static_cast<std::size_t>(begin));
    const bool question = rest.front() == code::assert_word;
    // The answer itself is not looked at, not even for whether it is a line end.
    const auto stop = std::ranges::find_if(
        rest, [&](auto id) { return id == code::line_end || (question && id == code::equals); });
    auto end = begin + (stop - rest.begin());
    require(!question || (stop != rest.end() && *stop == code::equals),
            "token {} ('assert'): its line has no '=='", begin);
    if (question) ++end;
    program.words.insert(program.words.end(), ids.begin() + begin, ids.begin() + end);
    auto& line = program.end_line(begin, std::min(tokens, end + (question ? 1 : 0)));
    if (question) line.answer = end, line.zero = code::zero, ++end;
    require(end >= tokens || ids[static_cast<std::size_t>(end)] == code::line_end,
            "token {} ('{}'): expected the line's end", end,
            code::vocabulary().word(ids[std::min(ids.size() - 1, static_cast<std::size_t>(end))]));
    begin = end + 1;
  }
  return program;
}

std::vector<std::int32_t> write_code(const Program& program, std::span<const std::int64_t> values,
                                     std::vector<std::int64_t>& answers) {
  std::vector<std::int32_t> ids = {Vocabulary::bos};
  ids.reserve(program.words.size() + program.lines.size() + values.size() + 1);
  for (const Line& line : program.lines) {
    if (ids.size() > 1) ids.push_back(code::line_end);
    const auto words = program.line_words(line);
    ids.insert(ids.end(), words.begin(), words.end());
    if (line.answer < 0) continue;
    ids.push_back(code::integer(values[answers.size()]));
    answers.push_back(static_cast<std::int64_t>(ids.size()) - 1);
  }
  return ids;
}

void TokenReader::reject(std::string_view expected) const {
  if (done()) fail("the text ends after {} tokens: expected {}", ids_.size(), expected);
  fail("token {} ('{}'): expected {}", next_, vocabulary_->word(peek()), expected);
}

}  // namespace braid::lab

#include "braid/lab/problems/parts.h"

#include "braid/core/error.h"
#include "braid/lab/problems/problems.h"

namespace braid::lab {

Words vocabulary_words(std::initializer_list<Words> parts) {
  Words words = {"<pad>", "<bos>"};
  for (const auto& part : parts) words.insert(words.end(), part.begin(), part.end());
  return words;
}

Words numbered(std::string_view prefix, std::int64_t count) {
  Words words;
  for (std::int64_t i = 0; i < count; ++i) words.push_back(std::string(prefix) + std::to_string(i));
  return words;
}

Words questions() { return {"a?", "b?", "c?", "d?", "e?"}; }

Words swap_words() {
  Words words;
  for (const auto& [first, second] : kSwapPairs) words.push_back({"abcde"[first], ',', "abcde"[second]});
  return words;
}

void add_question(ProblemTokens& text, std::int32_t question, std::int32_t answer) {
  text.ids.push_back(question);
  text.answers.push_back(static_cast<std::int64_t>(text.ids.size()));
  text.ids.push_back(answer);
}

Line& translate_question(Program& program, TokenReader& reader, std::initializer_list<std::int32_t> asked) {
  const auto at = reader.position();
  reader.take();
  reader.skip_answer();
  program.add({code::assert_word});
  program.add(asked);
  program.add({code::equals});
  auto& line = program.end_line(at, reader.position());
  line.answer = at + 1;
  return line;
}

void add_variables(Program& program) {
  program.add(
      {code::a, code::comma, code::b, code::comma, code::c, code::comma, code::d, code::comma, code::e});
}

void add_swap(Program& program, const SwapPair& pair) {
  const auto x = code::variable(static_cast<std::int64_t>(pair.first));
  const auto y = code::variable(static_cast<std::int64_t>(pair.second));
  program.add({x, code::comma, y, code::assign, y, code::comma, x});
}

std::int64_t read_bits(Program& program, TokenReader& reader, std::int32_t zero) {
  const auto begin = reader.position();
  program.add({code::bits, code::assign, code::open_bracket});
  while (reader.peek() == zero || reader.peek() == zero + 1) {
    if (reader.position() - begin == kMaxBits) reader.reject(fmt::format("at most {} bits", kMaxBits));
    if (reader.position() > begin) program.add({code::comma});
    program.add({code::integer(reader.take() - zero)});
  }
  if (reader.position() == begin) reader.reject("a bit");
  program.add({code::close_bracket});
  program.end_line(begin, reader.position());
  return reader.position() - begin;
}

}  // namespace braid::lab

// Texts of the lab's problems, as ids or as words: what has a meaning is solved, traced and read back alike.
// First byte: the problem (& 15), code form (& 16), words (& 32). Ids are bytes, from 240 on two of them.
#include <algorithm>
#include <cstdint>

#include "braid/lab/experiment/lab_tokenizer.h"
#include "braid/lab/problems/program.h"
#include "check.h"

namespace {

using namespace braid;
using Ids = std::vector<std::int32_t>;

Ids ids_of(const std::uint8_t* data, const std::uint8_t* end) {
  Ids ids{lab::Vocabulary::bos};
  while (data < end) {
    std::int32_t id = *data++;
    if (id >= 240 && data < end) id = (id - 240) << 8 | *data++;
    ids.push_back(id);
  }
  return ids;
}

// Another answer, or none at the end, is no other text.
void check_answers_are_not_looked_at(const lab::Problem& problem, const Ids& ids, const Ids& answers) {
  auto blind = ids;
  for (const auto& line : lab::read_code(ids).lines) {
    const auto at = static_cast<std::size_t>(std::max<std::int64_t>(line.answer, 0));
    if (at > 0 && at < blind.size()) blind[at] = lab::code::line_end;
    if (at + 1 == blind.size()) blind.pop_back();
  }
  fuzz::check(problem.solve(lab::Form::code, blind) == answers, "answers are not looked at");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto names = lab::problem_names();
  const std::uint8_t first = size > 0 ? *data : 0;
  const auto* end = data + size;
  data += size > 0 ? 1 : 0;
  const auto& problem = lab::problem_named(names[(first & 15) % names.size()]);
  const auto form = (first & 16) != 0 ? lab::Form::code : lab::Form::tokens;
  const lab::LabTokenizer tokenizer(problem, form);
  fuzz::accept_errors([&] {
    const bool words = (first & 32) != 0;
    const auto ids =
        words ? tokenizer.encode({reinterpret_cast<const char*>(data), static_cast<std::size_t>(end - data)})
              : ids_of(data, end);
    const auto answers = problem.solve(form, ids);
    fuzz::check(tokenizer.encode(tokenizer.decode(ids)) == ids, "words are read back");
    for (const auto id : answers) fuzz::check(!tokenizer.vocabulary().word(id).empty(), "answers are words");
    fuzz::check(!problem.trace(form, ids).empty() || ids.size() == 1, "what can be solved has a trace");
    if (form == lab::Form::code) check_answers_are_not_looked_at(problem, ids, answers);
  });
  return 0;
}

// The data of the quick recipes' later stages, made from documents by rule.
#pragma once
#include <filesystem>
#include <vector>

#include "braid/io/files.h"

namespace braid::data {

struct ChatSetOptions {
  std::int64_t conversations = 6000;  // of supervised fine-tuning
  std::int64_t tasks = 200;           // held-out questions that are scored
  std::int64_t preferences = 4000;    // pairs of answers to further questions
  std::int64_t documents = 2000;      // texts of several exercises each, for mid-training
  std::uint64_t seed = 1;
};

// Writes into `folder`:
//
//   chat.jsonl         {"messages": [user, assistant]}, one exercise each; some exercises are mostly answered
//                      in a sentence, as by a mixture of sources with habits of their own
//   preferences.jsonl  {"prompt": [user], "chosen", "rejected"}: the right answer alone, and in a sentence
//   tasks.jsonl        {"messages": [user], "answer", "task"}, of other documents than the rest
//   exercises.jsonl    {"text"}: exercises as plain text, question and answer a line each
//
// No question occurs twice in them all. A pure function of the documents' texts and the options. Documents
// with fewer than 64 plain words are left out.
void make_chat_sets(const std::vector<io::fs::path>& inputs, const io::fs::path& folder,
                    const ChatSetOptions&);

}  // namespace braid::data

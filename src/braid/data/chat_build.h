// From conversations to token files with label masks, for supervised fine-tuning.
#pragma once
#include <vector>

#include "braid/data/token_file.h"

namespace braid::data {

struct ChatBuildOptions {
  double validation_fraction = 0;  // in [0, 1); 0 writes no validation file
  std::uint64_t seed = 0;          // chooses the validation conversations
};

struct ChatTokenFiles {
  fs::path train, validation;  // `validation` is empty when its fraction is 0
  TokenFileInfo train_info, validation_info;
  std::int64_t train_targets = 0, validation_targets = 0;  // tokens that may be targets
};

// Reads conversations, one JSON object {"messages": [{"role", "content"}, …]} a line (.jsonl, .jsonl.gz,
// .jsonl.zst, or folders of them), and writes train.u16 (.u32) with train.mask and train.json into `folder`;
// each conversation is a document closed by the end of text, which is not a target. A conversation without an
// assistant message is an error, as everything malformed; errors name file, line and field.
ChatTokenFiles build_chat_files(const std::vector<fs::path>& inputs, const text::Tokenizer& tokenizer,
                                const fs::path& folder, const ChatBuildOptions& options);

}  // namespace braid::data

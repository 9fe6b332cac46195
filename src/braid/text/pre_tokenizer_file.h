// The pre_tokenizer field of tokenizer.json.
#pragma once
#include <vector>

#include "braid/io/json.h"
#include "braid/text/pre_tokenizer.h"

namespace braid::text {

// Understands Split, Digits and ByteLevel, alone or in a Sequence; ByteLevel must come last.
std::vector<SplitStep> read_pre_tokenizer(const io::Fields& root);

}  // namespace braid::text

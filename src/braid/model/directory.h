// What a model directory holds beside config and weights, and how a new one comes to be.
#pragma once
#include <functional>

#include "braid/io/files.h"

namespace braid::model {

// Copies tokenizer, generation config and chat template, as far as they are there; verified where there are
// checksums.
void copy_small_files(const io::fs::path& from, const io::fs::path& to);
// Throws, naming the file, when both directories hold a tokenizer and it is not the same.
void require_same_tokenizer(const io::fs::path& a, const io::fs::path& b);

// Calls write(folder) with a temporary folder beside `output` and renames it to `output` when all of it is
// durable; removes it when write throws. `output` must be new or an empty folder.
void publish_directory(const io::fs::path& output, const std::function<void(const io::fs::path&)>& write);

}  // namespace braid::model

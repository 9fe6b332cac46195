// checksums.json: what every file of a folder holds, so that damage is found and named.
#pragma once
#include "braid/io/safetensors.h"

namespace braid::io {

inline constexpr std::string_view kChecksumsName = "checksums.json";

// XXH3 in 128 bits (github.com/Cyan4973/xxHash), as 32 hexadecimal digits. Not a defence against forgery.
std::string checksum(std::span<const std::byte> bytes);

// Writes FOLDER/checksums.json, to be called when everything else is there: for each file its size and
// checksum, for a safetensors file that of its header and of each tensor. A tensor's is taken from `tensors`,
// where it came from, not from what was written; all must be there.
void write_checksums(const fs::path& folder, const std::vector<NamedTensor>& tensors);

// Reads every byte of the files that FOLDER/checksums.json names. Throws, naming file and tensor, where one
// is missing, has another size or other bytes, checksums.json itself included. Files that it does not name
// are not looked at.
void verify_checksums(const fs::path& folder);

}  // namespace braid::io

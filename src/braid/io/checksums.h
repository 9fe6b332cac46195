// checksums.json: what every file of a folder holds, so that damage is found and named.
#pragma once
#include "braid/io/safetensors.h"

namespace braid::io {

inline constexpr std::string_view kChecksumsName = "checksums.json";

// XXH3 in 128 bits (github.com/Cyan4973/xxHash), as 32 hexadecimal digits. Not a defence against forgery.
std::string checksum(std::span<const std::byte> bytes);

// Writes FOLDER/checksums.json, to be called when everything else is there: for each file its size and
// checksum, for a safetensors file that of its header and of each tensor. A tensor's is the one that
// write_tensor_folder() took where the tensor came from; those of all tensors in the folder must be given.
void write_checksums(const fs::path& folder, const TensorChecksums& tensors);

struct VerifyOptions {
  std::function<bool(std::string_view file)> only = {};  // of the files that are named; empty: all
  int threads = 0;                                       // 0: the machine's, at most 8
};
// Reads every byte of the files that FOLDER/checksums.json names. Throws, naming file and tensor, where one
// is missing, has another size or other bytes, checksums.json itself included; of several the first in the
// order of checksums.json. Files that it does not name are not looked at.
void verify_checksums(const fs::path& folder, const VerifyOptions& options = {});

// The checksums that FOLDER/checksums.json says STEM's tensors have; empty where there is none. The file
// itself is verified, the tensors are not read.
TensorChecksums listed_tensor_checksums(const fs::path& folder, const std::string& stem = "model");

// For readers of folders that need not have checksums: as above where there is a checksums.json that names
// what they are about to read, else nothing.
void verify_file(const fs::path& path);
void verify_tensor_files(const fs::path& folder, const std::string& stem = "model");  // those of TensorFiles

}  // namespace braid::io

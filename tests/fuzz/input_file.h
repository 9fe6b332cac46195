// A fuzz target's input as a file, for readers that take a path.
#pragma once
#include <unistd.h>

#include <fstream>

#include "braid/io/files.h"

namespace braid::fuzz {

// Goes away with its object. Not synced, which would take most of a run's time.
class InputFile {
 public:
  InputFile(std::string_view content, const char* ending)
      : path_(io::fs::temp_directory_path() / fmt::format("braid-fuzz-{}{}", ::getpid(), ending)) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~InputFile() { io::fs::remove(path_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  const io::fs::path& path() const { return path_; }

 private:
  io::fs::path path_;
};

}  // namespace braid::fuzz

// A log that lines are appended to, and that survives a full disk.
#pragma once
#include <mutex>
#include <string>

#include "braid/io/files.h"

namespace braid::io {

// Where the disk, a quota or the process's file size limit leaves no room, what was appended waits in memory;
// every later append and sync tries it again. One thread may sync while another appends.
class AppendFile {
 public:
  // Opens or makes the file.
  explicit AppendFile(fs::path path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // Nothing is durable before sync().
  void append(std::string_view text);
  // Everything so far is in the file and durable, or an error names the file.
  void sync();
  // Cuts the file to so many bytes, durably.
  void truncate(std::uintmax_t bytes);

  std::uintmax_t bytes() const;  // what waits included
  std::size_t waiting() const;
  const fs::path& path() const { return path_; }

 private:
  int write_waiting();  // 0, or the error that says there is no room

  fs::path path_;
  int fd_ = -1;
  mutable std::mutex mutex_;
  std::uintmax_t written_ = 0;
  std::string waiting_;
};

}  // namespace braid::io

// One process at a time in a folder.
#pragma once
#include "braid/io/files.h"

namespace braid::io {

// Held as long as it lives, and given up by a process that dies. Throws where another process holds it;
// `doing` says what ("training"). Move-only.
class FolderLock {
 public:
  FolderLock(const fs::path& folder, std::string_view doing);
  ~FolderLock();
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&&) = delete;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace braid::io

// Files: read-only memory maps and writes that are whole or absent.
#pragma once
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/core/error.h"

namespace braid::io {

namespace fs = std::filesystem;

// Read-only map of a whole regular file. Errors name the path. Move-only.
class MappedFile {
 public:
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// A file that appears under its name only when commit() returns: written under a temporary name in the same
// folder, fsynced, renamed, folder fsynced. Without commit() the destructor removes the temporary file.
class AtomicFile {
 public:
  explicit AtomicFile(const fs::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void commit();

 private:
  fs::path path_, temporary_;
  int fd_ = -1;
};

// Removes temporary files that writers of `path` left when they were killed: those untouched for an hour.
void remove_leftovers(const fs::path& path);

void write_file(const fs::path& path, std::string_view text);  // atomic and durable, by AtomicFile
std::string read_file(const fs::path& path);                   // the whole file; error names the path
void sync_folder(const fs::path& folder);                      // fsync of a directory
// Publishes a fully written folder: fsyncs every file and folder below `from`, renames it to `to`, fsyncs the
// parent. `to` must not exist.
void publish_folder(const fs::path& from, const fs::path& to);

}  // namespace braid::io

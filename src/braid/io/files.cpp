#include "braid/io/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <system_error>
#include <utility>

namespace braid::io {
namespace {

constexpr std::size_t kLargestCall = std::size_t{1} << 30;  // read and write stop short of 2 GiB

[[noreturn]] void fail_errno(std::string_view action, const fs::path& path, int error) {
  fail("cannot {} {}: {}", action, path.string(), std::generic_category().message(error));
}

// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags, std::string_view action)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {
    if (fd_ < 0) fail_errno(action, path, errno);
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

fs::path folder_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

std::uint64_t random_number() {
  std::uint64_t number = 0;
  if (::getrandom(&number, sizeof number, 0) != sizeof number) {
    fail("cannot draw random bytes for a temporary file name: {}", std::generic_category().message(errno));
  }
  return number;
}

void sync_path(const fs::path& path, int flags) {
  const Descriptor file(path, flags, "open");
  if (::fsync(file.get()) != 0) fail_errno("sync", path, errno);
}

// Files first, then the folder that names them. Symbolic links are left alone.
void sync_tree(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_symlink()) continue;
    if (entry.is_directory()) sync_tree(entry.path());
    if (entry.is_regular_file()) sync_path(entry.path(), O_RDONLY);
  }
  sync_folder(folder);
}

// Rename that never replaces anything, with a checked plain rename where the file system lacks the flag.
void rename_new(const fs::path& from, const fs::path& to) {
  int status = ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE);
  if (status != 0 && (errno == EINVAL || errno == ENOSYS)) {
    if (fs::exists(fs::symlink_status(to))) fail_errno("publish", to, EEXIST);
    status = ::rename(from.c_str(), to.c_str());
  }
  if (status != 0) fail_errno("publish " + from.string() + " as", to, errno);
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor file(path, O_RDONLY, "open");
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail_errno("inspect", path, errno);
  require(S_ISREG(status.st_mode), "cannot map {}: not a regular file", path.string());
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* p = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (p == MAP_FAILED) fail_errno("map", path, errno);
  data_ = static_cast<const std::byte*>(p);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

AtomicFile::AtomicFile(const fs::path& path) : path_(path) {
  require(path.has_filename(), "cannot write {}: not a file name", path.string());
  do {  // a leading dot hides it from globs; a taken name is drawn again
    temporary_ = folder_of(path) / fmt::format(".{}.{:016x}.tmp", path.filename().string(), random_number());
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0) fail_errno("create", path_, errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  require(fd_ >= 0, "cannot write {}: already committed", path_.string());
  while (!bytes.empty()) {
    const ::ssize_t n = ::write(fd_, bytes.data(), std::min(bytes.size(), kLargestCall));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("write", path_, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void AtomicFile::commit() {
  require(fd_ >= 0, "cannot commit {}: already committed", path_.string());
  if (::fsync(fd_) != 0) fail_errno("sync", path_, errno);
  if (::close(std::exchange(fd_, -1)) != 0) fail_errno("close", path_, errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_errno("replace", path_, errno);
  temporary_.clear();
  sync_folder(folder_of(path_));
}

void remove_leftovers(const fs::path& path) {
  const auto prefix = fmt::format(".{}.", path.filename().string());
  std::error_code ignored;  // of files that vanish meanwhile
  for (const auto& entry : fs::directory_iterator(folder_of(path), ignored)) {
    const auto name = entry.path().filename().string();
    const bool temporary = name.starts_with(prefix) && name.ends_with(".tmp") &&
                           name.size() == prefix.size() + 16 + std::string_view(".tmp").size();
    if (!temporary) continue;
    const auto written = fs::last_write_time(entry.path(), ignored);
    if (!ignored && fs::file_time_type::clock::now() - written > std::chrono::hours(1)) {
      fs::remove(entry.path(), ignored);
    }
  }
}

void write_file(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

std::string read_file(const fs::path& path) {
  const Descriptor file(path, O_RDONLY, "read");
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail_errno("inspect", path, errno);
  // One byte more than the size, so that the end is seen without growing; pipes and /proc report size 0.
  std::string text(static_cast<std::size_t>(status.st_size) + 1, '\0');
  std::size_t used = 0;
  for (;;) {
    if (used == text.size()) text.resize(text.size() * 2 + 4096);
    const ::ssize_t n = ::read(file.get(), text.data() + used, std::min(text.size() - used, kLargestCall));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("read", path, errno);
    if (n == 0) break;
    used += static_cast<std::size_t>(n);
  }
  text.resize(used);
  return text;
}

void sync_folder(const fs::path& folder) { sync_path(folder, O_RDONLY | O_DIRECTORY); }

void publish_folder(const fs::path& from, const fs::path& to) {
  require(fs::is_directory(from), "cannot publish {}: not a folder", from.string());
  try {
    sync_tree(from);
  } catch (const fs::filesystem_error& error) {
    fail("cannot publish {}: {}", from.string(), error.code().message());
  }
  rename_new(from, to);
  sync_folder(folder_of(to));
  if (folder_of(from) != folder_of(to)) sync_folder(folder_of(from));
}

}  // namespace braid::io

#include "braid/io/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace braid::io {
namespace {

[[noreturn]] void fail_errno(std::string_view action, const fs::path& path, int error) {
  fail("cannot {} {}: {}", action, path.string(), std::generic_category().message(error));
}

bool no_room(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

}  // namespace

AppendFile::AppendFile(fs::path path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_errno("open", path_, errno);
  written_ = fs::file_size(path_);
}

AppendFile::~AppendFile() { ::close(fd_); }

int AppendFile::write_waiting() {
  std::size_t done = 0;
  int error = 0;
  while (done < waiting_.size() && error == 0) {
    const auto n = ::write(fd_, waiting_.data() + done, waiting_.size() - done);
    if (n >= 0) done += static_cast<std::size_t>(n);
    if (n < 0 && errno != EINTR) error = errno;
  }
  waiting_.erase(0, done);
  written_ += done;
  if (error != 0 && !no_room(error)) fail_errno("write", path_, error);
  return error;
}

void AppendFile::append(std::string_view text) {
  const std::lock_guard lock(mutex_);
  waiting_ += text;
  write_waiting();
}

void AppendFile::sync() {
  const std::lock_guard lock(mutex_);
  if (const int error = write_waiting(); error != 0) fail_errno("write", path_, error);
  if (::fsync(fd_) != 0) fail_errno("sync", path_, errno);
}

void AppendFile::truncate(std::uintmax_t bytes) {
  const std::lock_guard lock(mutex_);
  waiting_.clear();
  if (::ftruncate(fd_, static_cast<::off_t>(bytes)) != 0) fail_errno("truncate", path_, errno);
  if (::fsync(fd_) != 0) fail_errno("sync", path_, errno);
  written_ = bytes;
}

std::uintmax_t AppendFile::bytes() const {
  const std::lock_guard lock(mutex_);
  return written_ + waiting_.size();
}

std::size_t AppendFile::waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_.size();
}

}  // namespace braid::io

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "command.h"

namespace braid::app {

void append_line(const std::string& path, const std::string& line) {
  const std::string text = line + "\n";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  // One write appends a line whole, or none of it on most file systems.
  const bool written = fd >= 0 &&
                       ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       ::fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  require(written, "{}: cannot append: {}", path, std::strerror(error));
}

}  // namespace braid::app

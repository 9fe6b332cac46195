// A full disk, as far as one process sees it: no file of its may grow beyond some size.
#pragma once
#include <sys/resource.h>

#include <csignal>

namespace braid::test {

// From construction, or set(), to destruction.
class FileSizeLimit {
 public:
  FileSizeLimit() {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
  }
  ~FileSizeLimit() {
    lift();
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

  void set(::rlim_t bytes) const {
    auto limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  void lift() const { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  ::rlimit before_{};
  void (*handler_)(int) = nullptr;
};

}  // namespace braid::test

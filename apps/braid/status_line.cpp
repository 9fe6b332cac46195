#include "status_line.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>

namespace braid::app {

std::string duration(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return fmt::format("{}m{:02}s", s / 60, s % 60);
}

StatusLine::StatusLine(Pace pace) : pace_(pace), terminal_(::isatty(1) == 1) {}

bool StatusLine::due(When when) {
  const auto now = std::chrono::steady_clock::now();
  const auto period = terminal_ ? pace_.terminal : pace_.elsewhere;
  if (when == When::by_pace && printed_ && now - shown_ < period) return false;
  printed_ = true;
  shown_ = now;
  return true;
}

void StatusLine::show(const std::string& status) {
  if (terminal_) {
    fmt::print("\r\033[K{}", status);
    open_ = true;
  } else {
    fmt::print("{}\n", status);
  }
  std::fflush(stdout);
}

void StatusLine::keep() {
  if (open_) fmt::print("\n");
  open_ = false;
}

void StatusLine::erase() {
  if (open_) fmt::print("\r\033[K");
  open_ = false;
}

void StatusLine::line(const std::string& text) {
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

}  // namespace braid::app

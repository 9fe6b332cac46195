// How long work shows where it stands.
#pragma once
#include <chrono>
#include <string>

namespace braid::app {

std::string duration(double seconds);  // "2m05s", "1h02m"

// Lines, and one below them that is rewritten in place on a terminal and printed now and then elsewhere.
class StatusLine {
 public:
  struct Pace {
    std::chrono::milliseconds terminal, elsewhere;
  };
  explicit StatusLine(Pace pace);

  bool terminal() const { return terminal_; }
  // Whether the pace lets another status be shown. `now`: whatever the pace.
  enum class When : bool { by_pace, now };
  bool due(When when = When::by_pace);
  void show(const std::string& status);
  void keep();   // the status stays where it is, and the next thing goes below it
  void erase();  // the next thing takes its place
  // A line of its own, after keep() or erase().
  void line(const std::string& text);

 private:
  Pace pace_;
  bool terminal_, open_ = false, printed_ = false;
  std::chrono::steady_clock::time_point shown_;
};

}  // namespace braid::app

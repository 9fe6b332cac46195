// Temporary folders and error messages for tests of file formats.
#pragma once
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "braid/core/error.h"

namespace braid::test {

// An empty folder that goes away with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "braid-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Writes without the library under test.
inline std::filesystem::path put(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return path;
}

std::filesystem::path source_folder();  // of the project
std::filesystem::path golden(std::string_view name);

// The message of the braid::Error that f() throws; a failure when it throws none, or one of several lines.
template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

inline bool holds(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

// A macro so that a failure names the line of the test.
#define EXPECT_HOLDS(text, part) EXPECT_PRED2(::braid::test::holds, text, part)

}  // namespace braid::test

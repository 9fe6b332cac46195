// What the data tests share: a folder that goes away, and errors checked for what they must name.
#pragma once
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "braid/core/error.h"
#include "braid/data/token_file.h"
#include "braid/io/files.h"

namespace braid::data {

class FolderTest : public testing::Test {
 protected:
  FolderTest() {
    std::string name = (fs::temp_directory_path() / "braid-data-XXXXXX").string();
    require(::mkdtemp(name.data()) != nullptr, "cannot make a temporary folder");
    folder_ = name;
  }
  ~FolderTest() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name, std::string_view content) const {
    fs::create_directories((folder_ / name).parent_path());
    io::write_file(folder_ / name, content);
    return folder_ / name;
  }
  // A token file without a sidecar.
  template <class Stored>
  fs::path write_ids(const std::string& name, const std::vector<Stored>& ids) const {
    return write(name, {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(Stored)});
  }

  fs::path folder_;
};

// fn must throw braid::Error with a one-line message that holds each of `parts`.
template <class Fn>
void expect_error(Fn&& fn, const std::vector<std::string>& parts) {
  try {
    fn();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), message.npos) << message;
    for (const std::string& part : parts)
      EXPECT_NE(message.find(part), message.npos) << part << " in: " << message;
    return;
  }
  ADD_FAILURE() << "no error that names " << parts.front();
}

}  // namespace braid::data

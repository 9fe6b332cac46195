// Logs that a full disk does not tear.
#include "braid/io/append_file.h"

#include <gtest/gtest.h>

#include "tests/support/file_size_limit.h"
#include "tests/support/files.h"

namespace braid::test {
namespace {

TEST(AppendFile, AppendsToWhatIsThereAndCuts) {
  const TemporaryFolder folder;
  put(folder / "log", "one\n");
  io::AppendFile file(folder / "log");
  file.append("two\n");
  EXPECT_EQ(file.bytes(), 8u);
  file.sync();
  EXPECT_EQ(io::read_file(folder / "log"), "one\ntwo\n");
  file.truncate(4);
  file.append("three\n");
  EXPECT_EQ(io::read_file(folder / "log"), "one\nthree\n");
}

TEST(AppendFile, WhatFindsNoRoomWaits) {
  const TemporaryFolder folder;
  io::AppendFile file(folder / "log");
  const FileSizeLimit limit;
  limit.set(6);
  file.append("one\n");
  file.append("two\n");
  file.append("three\n");
  EXPECT_EQ(io::read_file(folder / "log"), "one\ntw");
  EXPECT_EQ(file.waiting(), 8u);
  EXPECT_EQ(file.bytes(), 14u);
  EXPECT_HOLDS(message_of([&] { file.sync(); }), (folder / "log").string());
  limit.lift();
  file.append("four\n");
  EXPECT_EQ(io::read_file(folder / "log"), "one\ntwo\nthree\nfour\n");
  EXPECT_EQ(file.waiting(), 0u);
}

TEST(AppendFile, NamesTheFileThatCannotBeOpened) {
  EXPECT_HOLDS(message_of([] { io::AppendFile("/none/log"); }), "/none/log");
}

}  // namespace
}  // namespace braid::test

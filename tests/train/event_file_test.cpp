// TensorBoard's files: published check values, the framing, and the order of files.
#include "braid/train/event_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/support/files.h"

namespace braid::test {
namespace {

template <class T>
T number_at(std::string_view text, std::size_t at) {
  T value{};
  std::memcpy(&value, text.data() + at, sizeof value);
  return value;
}

std::uint32_t masked(std::string_view text) {
  const auto crc = train::crc32c(text);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

// The data of each record, its framing checked.
std::vector<std::string> records_of(std::string_view text) {
  std::vector<std::string> records;
  while (!text.empty()) {
    const auto size = number_at<std::uint64_t>(text, 0);
    EXPECT_EQ(number_at<std::uint32_t>(text, 8), masked(text.substr(0, 8)));
    const auto data = text.substr(12, size);
    EXPECT_EQ(number_at<std::uint32_t>(text, 12 + size), masked(data));
    records.emplace_back(data);
    text.remove_prefix(size + 16);
  }
  return records;
}

std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

TEST(EventFile, Crc32cOfRfc3720) {
  EXPECT_EQ(train::crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(train::crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(train::crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
  EXPECT_EQ(train::crc32c(""), 0u);
}

TEST(EventFile, HoldsVersionStartAndScalars) {
  const TemporaryFolder folder;
  train::EventFile events(folder.path(), 301);
  events.append(301, {{"train/loss", 2.5}});
  const auto files = files_in(folder.path());
  ASSERT_EQ(files.size(), 1u);
  const auto records = records_of(io::read_file(files[0]));
  ASSERT_EQ(records.size(), 3u);
  // wall_time (9 bytes), then step 0 and file_version; step 301 (varint AD 02) and SessionLog START.
  EXPECT_EQ(records[0].substr(9), std::string("\x10\x00\x1A\x0D", 4) + "brain.Event:2");
  EXPECT_EQ(records[1].substr(9), "\x10\xAD\x02\x3A\x02\x08\x01");
  // Summary of 19 bytes: Value of 17 bytes: tag of 10 bytes, simple_value 2.5f = 40200000.
  EXPECT_EQ(records[2].substr(9), std::string("\x10\xAD\x02\x2A\x13\x0A\x11\x0A\x0A") + "train/loss" +
                                      std::string("\x15\x00\x00\x20\x40", 5));
  EXPECT_GT(number_at<double>(records[2], 1), 1.6e9);
}

TEST(EventFile, FilesFollowOneAnotherByName) {
  const TemporaryFolder folder;
  std::vector<std::string> names;
  for (int i = 0; i < 3; ++i) {
    train::EventFile events(folder.path(), i);
    names.push_back(events.file().path().filename().string());
  }
  EXPECT_TRUE(std::ranges::is_sorted(names));
  EXPECT_EQ(files_in(folder.path()).size(), 3u);
}

TEST(EventFile, NamesOfOthersDoNoHarm) {  // once the search for a later name never ended
  const TemporaryFolder folder;
  for (const auto* name :
       {"notes", "events.out.tfevents.", "events.out.tfevents.x", "events.out.tfevents.99999999999999999999",
        "events.out.tfevents.5000000000.host.1"}) {
    put(folder / name, "");
  }
  train::EventFile events(folder.path(), 0);
  EXPECT_HOLDS(events.file().path().filename().string(), "events.out.tfevents.5000000001.");
}

}  // namespace
}  // namespace braid::test

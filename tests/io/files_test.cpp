#include "braid/io/files.h"

#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/files.h"

namespace {

using namespace braid::io;
using braid::test::message_of, braid::test::put, braid::test::TemporaryFolder;

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(MappedFile, ShowsTheBytesAndMoves) {
  const TemporaryFolder folder;
  MappedFile first(put(folder / "a", "abc"));
  const std::byte* data = first.bytes().data();
  const MappedFile second = std::move(first);
  EXPECT_EQ(second.bytes().data(), data);
  EXPECT_EQ(second.bytes().size(), 3u);
  EXPECT_EQ(second.bytes()[2], std::byte{'c'});
  EXPECT_EQ(MappedFile(put(folder / "empty", "")).bytes().size(), 0u);
}

TEST(MappedFile, NamesWhatItCannotMap) {
  const TemporaryFolder folder;
  EXPECT_HOLDS(message_of([&] { MappedFile(folder / "none"); }), (folder / "none").string());
  EXPECT_HOLDS(message_of([&] { MappedFile(folder.path()); }), "not a regular file");
}

TEST(AtomicFile, AppearsOnlyOnCommit) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "a");
  file.write("one ");
  file.write("two");
  EXPECT_FALSE(fs::exists(folder / "a"));
  file.commit();
  EXPECT_EQ(read_file(folder / "a"), "one two");
  EXPECT_EQ(entries(folder.path()), 1u);
  EXPECT_HOLDS(message_of([&] { file.write("x"); }), "already committed");
  EXPECT_HOLDS(message_of([&] { file.commit(); }), "already committed");
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  const TemporaryFolder folder;
  put(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new");
  }
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFile, ReplacesAndFollowsTheUmask) {
  const TemporaryFolder folder;
  put(folder / "a", "a longer old text");
  write_file(folder / "a", "new");
  EXPECT_EQ(read_file(folder / "a"), "new");
  const ::mode_t mask = ::umask(0);
  ::umask(mask);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0666 & ~mask);
}

TEST(AtomicFile, NamesTheFileItCannotWrite) {
  const TemporaryFolder folder;
  const fs::path path = folder / "none/a";
  EXPECT_HOLDS(message_of([&] { write_file(path, "x"); }), path.string());
  fs::create_directory(folder / "taken");
  EXPECT_HOLDS(message_of([&] { write_file(folder / "taken", "x"); }), "cannot replace");
  EXPECT_EQ(entries(folder.path()), 1u);  // no temporary file is left
}

TEST(AtomicFile, WritesIntoTheCurrentFolder) {
  const TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  write_file("plain", "x");
  fs::current_path(before);
  EXPECT_EQ(read_file(folder / "plain"), "x");
}

TEST(ReadFile, ReadsAllAndNamesWhatIsMissing) {
  const TemporaryFolder folder;
  const std::string large(100'000, 'x');
  EXPECT_EQ(read_file(put(folder / "large", large)), large);
  EXPECT_EQ(read_file(put(folder / "empty", "")), "");
  EXPECT_HOLDS(read_file("/proc/self/status"), "Name:");  // its size is reported as 0
  EXPECT_HOLDS(message_of([&] { read_file(folder / "none"); }), (folder / "none").string());
  EXPECT_HOLDS(message_of([&] { read_file(folder.path()); }), folder.path().string());
}

TEST(RemoveLeftovers, TakesOnlyOldTemporariesOfThatName) {
  const TemporaryFolder folder;
  const auto old = put(folder / ".a.u16.0123456789abcdef.tmp", "x");
  const auto young = put(folder / ".a.u16.0123456789abcde0.tmp", "x");
  const auto other = put(folder / ".b.u16.0123456789abcdef.tmp", "x");
  for (const auto& path : {old, other}) {
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(2));
  }
  remove_leftovers(folder / "a.u16");
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(young));
  EXPECT_TRUE(fs::exists(other));
  remove_leftovers(folder / "none" / "a.u16");  // nothing there, nothing to do
}

TEST(PublishFolder, RenamesAndNeverReplaces) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "new/inner");
  put(folder / "new/inner/a", "x");
  fs::create_symlink("nowhere", folder / "new/link");
  publish_folder(folder / "new", folder / "done");
  EXPECT_EQ(read_file(folder / "done/inner/a"), "x");
  EXPECT_FALSE(fs::exists(folder / "new"));

  fs::create_directory(folder / "again");
  fs::create_directory(folder / "empty");  // a plain rename would replace an empty folder
  EXPECT_HOLDS(message_of([&] { publish_folder(folder / "again", folder / "empty"); }), "exists");
  EXPECT_HOLDS(message_of([&] { publish_folder(folder / "none", folder / "x"); }), "not a folder");
}

}  // namespace

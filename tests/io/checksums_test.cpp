// Damage anywhere in a folder with checksums is found and named.
#include "braid/io/checksums.h"

#include <gtest/gtest.h>

#include "tests/support/files.h"

namespace braid::test {
namespace {

namespace fs = std::filesystem;

// Two shards, two small files.
struct Folder {
  Folder() {
    for (int i = 0; i < 3; ++i) {
      io::NamedTensor t{.name = fmt::format("weight{}", i), .tensor = {}};
      t.tensor.dtype = DType::f32;
      t.tensor.shape = {2, 3};
      t.tensor.data = values.data() + 6 * i;
      tensors.push_back(t);
    }
    checksums = io::write_tensor_folder(folder.path(), tensors, 48);
    put(folder / "config.json", "{\"a\": 1}\n");
    io::write_checksums(folder.path(), checksums);
  }
  std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::vector<io::NamedTensor> tensors;
  io::TensorChecksums checksums;
  TemporaryFolder folder;
};

TEST(Checksums, KnownValues) {
  EXPECT_EQ(io::checksum({}), "99aa06d3014798d86001c324468d497f");  // of nothing, xxhash's own test value
  EXPECT_NE(io::checksum(std::as_bytes(std::span("a", 1))), io::checksum(std::as_bytes(std::span("b", 1))));
}

TEST(Checksums, WholeFolderPasses) {
  const Folder f;
  EXPECT_NO_THROW(io::verify_checksums(f.folder.path()));
  put(f.folder / "notes.txt", "not of the folder");
  EXPECT_NO_THROW(io::verify_checksums(f.folder.path()));
}

TEST(Checksums, EveryFlippedBitOfEveryFileIsFound) {
  const Folder f;
  int files = 0;
  for (const auto& entry : fs::directory_iterator(f.folder.path())) {
    const auto whole = io::read_file(entry.path());
    const auto name = entry.path().filename().string();
    ++files;
    for (std::size_t at = 0; at < whole.size(); ++at) {
      auto bad = whole;
      bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
      put(entry.path(), bad);
      EXPECT_HOLDS(message_of([&] { io::verify_checksums(f.folder.path()); }), name) << at;
    }
    put(entry.path(), whole);
  }
  EXPECT_EQ(files, 5);  // two shards, their index, config.json, checksums.json
  EXPECT_NO_THROW(io::verify_checksums(f.folder.path()));
}

TEST(Checksums, NamesTheTensor) {
  const Folder f;
  const auto shard = f.folder / "model-00001-of-00002.safetensors";
  auto bytes = io::read_file(shard);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  put(shard, bytes);
  EXPECT_HOLDS(message_of([&] { io::verify_checksums(f.folder.path()); }), "tensor 'weight1'");
}

TEST(Checksums, MissingTruncatedAndLongerFilesAreNamed) {
  for (const auto* name : {"model-00002-of-00002.safetensors", "config.json", "checksums.json"}) {
    const Folder f;
    const auto path = f.folder / name;
    const auto whole = io::read_file(path);
    for (const auto& text :
         {whole.substr(0, whole.size() - 1), whole.substr(0, 3), std::string(), whole + " "}) {
      put(path, text);
      EXPECT_HOLDS(message_of([&] { io::verify_checksums(f.folder.path()); }), name);
    }
    fs::remove(path);
    EXPECT_HOLDS(message_of([&] { io::verify_checksums(f.folder.path()); }), name);
  }
}

TEST(Checksums, MemoryCountsNotTheFile) {
  const Folder f;
  auto bytes = io::read_file(f.folder / "model-00001-of-00002.safetensors");
  bytes[bytes.size() - 48] ^= 1;  // as if it had been written wrongly
  put(f.folder / "model-00001-of-00002.safetensors", bytes);
  io::write_checksums(f.folder.path(), f.checksums);
  EXPECT_HOLDS(message_of([&] { io::verify_checksums(f.folder.path()); }), "weight0");
}

TEST(Checksums, AllTensorsOfTheFolderMustBeGiven) {
  const Folder f;
  auto some = f.checksums;
  some.erase("weight2");
  EXPECT_HOLDS(message_of([&] { io::write_checksums(f.folder.path(), some); }), "weight2");
  auto more = f.checksums;
  more["weight3"] = more["weight2"];
  EXPECT_HOLDS(message_of([&] { io::write_checksums(f.folder.path(), more); }), "3 of the 4 tensors");
}

TEST(Checksums, TheFirstOfSeveralDamagesIsNamedForAnyThreads) {
  const Folder f;
  for (const auto* name : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
    auto bytes = io::read_file(f.folder / name);
    bytes.back() ^= 1;
    put(f.folder / name, bytes);
  }
  for (const int threads : {1, 2, 7}) {
    EXPECT_HOLDS(message_of([&] { io::verify_checksums(f.folder.path(), {.threads = threads}); }), "weight1");
  }
}

TEST(Checksums, ReadersVerifyWhatTheyReadAndNoMore) {
  const Folder f;
  io::fs::create_directories(f.folder / "without");
  put(f.folder / "without/config.json", "{}");
  EXPECT_NO_THROW(io::verify_file(f.folder / "without/config.json"));
  EXPECT_NO_THROW(io::verify_tensor_files(f.folder / "without"));
  EXPECT_NO_THROW(io::verify_file(f.folder / "unnamed.json"));
  put(f.folder / "config.json", "{\"a\": 2}\n");
  EXPECT_NO_THROW(io::verify_tensor_files(f.folder.path()));
  const auto error = message_of([&] { io::verify_file(f.folder / "config.json"); });
  EXPECT_HOLDS(error, "config.json: is damaged");
  EXPECT_HOLDS(error, "if it was changed on purpose, remove checksums.json");
  put(f.folder / "model-00002-of-00002.safetensors", "short");
  EXPECT_HOLDS(message_of([&] { io::verify_tensor_files(f.folder.path()); }), "model-00002-of-00002");
}

}  // namespace
}  // namespace braid::test

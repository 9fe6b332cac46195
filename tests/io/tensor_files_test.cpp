#include <cstring>

#include "braid/io/json.h"
#include "braid/io/safetensors.h"
#include "tests/support/files.h"

namespace {

using namespace braid;
using namespace braid::io;
using test::message_of, test::put, test::TemporaryFolder;

// Tensors a, b, c, ... of 2, 4, 6, ... floats; `seed` is their first value.
struct Weights {
  explicit Weights(std::size_t count, float seed = 0) {
    for (std::size_t i = 0; i < count; ++i)
      values.push_back(std::vector<float>(2 * (i + 1), seed + float(i)));
    for (std::size_t i = 0; i < count; ++i) {
      ConstTensor t;
      t.data = values[i].data();
      t.shape = {static_cast<std::int64_t>(values[i].size()) / 2, 2};
      tensors.push_back({std::string(1, static_cast<char>('a' + i)), t});
    }
  }
  std::vector<std::vector<float>> values;
  std::vector<NamedTensor> tensors;
};

void expect_holds_weights(const fs::path& path, const Weights& w) {
  const TensorFiles files(path);
  ASSERT_EQ(files.tensors().size(), w.tensors.size());
  for (std::size_t i = 0; i < w.tensors.size(); ++i) {
    EXPECT_EQ(files.tensors()[i].name, w.tensors[i].name);  // the given order
    const ConstTensor& t = files.at(w.tensors[i].name);
    EXPECT_EQ(t.shape, w.tensors[i].tensor.shape);
    EXPECT_EQ(std::memcmp(t.data, w.tensors[i].tensor.data, t.bytes()), 0);
  }
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& e : fs::directory_iterator(folder)) names.push_back(e.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(WriteSafetensors, RoundTripsEveryTypeAndEmptyTensors) {
  const TemporaryFolder folder;
  const std::uint64_t storage[4] = {1, 2, 3, 4};
  std::vector<NamedTensor> tensors;
  for (const DType dtype :
       {DType::f64, DType::i64, DType::f32, DType::i32, DType::bf16, DType::f16, DType::u8}) {
    ConstTensor t;
    t.data = storage;
    t.dtype = dtype;
    t.shape = {2, 2};
    tensors.push_back({std::string(name_of(dtype)), t});
  }
  ConstTensor empty;
  empty.shape = {0, 4};
  tensors.push_back({"empty", empty});
  ConstTensor scalar;
  scalar.data = storage;
  scalar.dtype = DType::u8;
  tensors.push_back({"scalar", scalar});
  write_safetensors(folder / "a.safetensors", tensors, {{"k", "v\n"}});
  const TensorFiles files(folder / "a.safetensors");
  ASSERT_EQ(files.tensors().size(), tensors.size());
  for (const auto& [name, t] : tensors) {
    EXPECT_EQ(files.at(name).dtype, t.dtype);
    EXPECT_EQ(files.at(name).shape, t.shape);
    if (t.bytes() == 0) continue;
    EXPECT_EQ(std::memcmp(files.at(name).data, t.data, t.bytes()), 0) << name;
  }
  EXPECT_EQ(files.metadata(), (std::map<std::string, std::string>{{"k", "v\n"}}));
}

TEST(WriteSafetensors, PadsTheHeaderWithSpaces) {
  const TemporaryFolder folder;
  const Weights w(3);
  write_safetensors(folder / "a.safetensors", w.tensors);
  const std::string bytes = read_file(folder / "a.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  const std::string header = bytes.substr(8, length);
  EXPECT_EQ(header[0], '{');
  EXPECT_EQ(header.find_last_not_of(' '), header.rfind('}'));
  EXPECT_EQ(bytes.size(), 8 + length + (2 + 4 + 6) * 4);
}

TEST(WriteSafetensors, ReordersOnlyWhatWouldBeUnaligned) {
  const TemporaryFolder folder;
  const std::uint64_t storage[4] = {1, 2, 3, 4};
  ConstTensor byte, number;
  byte.data = number.data = storage;
  byte.dtype = DType::u8;
  byte.shape = {3};
  number.shape = {2};
  write_safetensors(folder / "a", {{"byte", byte}, {"number", number}});
  const TensorFiles files(folder / "a");
  EXPECT_EQ(files.tensors()[0].name, "number");
  EXPECT_EQ(files.tensors()[1].name, "byte");
}

TEST(WriteSafetensors, RejectsBadTensorsAndLeavesNoFile) {
  const TemporaryFolder folder;
  const Weights w(1);
  const fs::path path = folder / "a.safetensors";
  const auto error = [&](std::vector<NamedTensor> tensors) {
    return message_of([&] { write_safetensors(path, tensors); });
  };
  const ConstTensor t = w.tensors[0].tensor;
  EXPECT_EQ(error({{"a", t}, {"a", t}}), "cannot write " + path.string() + ": tensor 'a' occurs twice");
  EXPECT_HOLDS(error({{"", t}}), "'' cannot name a tensor");
  EXPECT_HOLDS(error({{"__metadata__", t}}), "'__metadata__' cannot name a tensor");
  EXPECT_HOLDS(error({{"\xff", t}}), "not valid UTF-8");
  ConstTensor nowhere = t;
  nowhere.data = nullptr;
  EXPECT_HOLDS(error({{"a", nowhere}}), "tensor 'a' is not in host memory");
  ConstTensor device = t;
  device.device = Device::cuda;
  EXPECT_HOLDS(error({{"a", device}}), "tensor 'a' is not in host memory");
  EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST(TensorFolder, OneFileWhenItFits) {
  const TemporaryFolder folder;
  const Weights w(3);  // 8, 16 and 24 bytes
  for (const std::size_t limit : {std::size_t{0}, std::size_t{48}}) {
    write_tensor_folder(folder.path(), w.tensors, limit);
    EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"model.safetensors"});
    expect_holds_weights(folder.path(), w);
  }
  EXPECT_EQ(TensorFiles(folder.path()).find("none"), nullptr);
  EXPECT_EQ(message_of([&] { TensorFiles(folder.path()).at("none"); }),
            folder.path().string() + ": tensor 'none' is missing");
}

TEST(TensorFolder, ShardsGreedilyInOrder) {
  const TemporaryFolder folder;
  const Weights w(4);  // 8, 16, 24 and 32 bytes
  write_tensor_folder(folder.path(), w.tensors, 24);
  expect_holds_weights(folder.path(), w);
  const auto index = read_json(folder / "model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], 80);
  EXPECT_EQ(index["weight_map"]["a"], "model-00001-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["b"], "model-00001-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["c"], "model-00002-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["d"], "model-00003-of-00003.safetensors");  // larger than the limit, alone
}

TEST(TensorFolder, EveryLayoutReplacesEveryOther) {
  const TemporaryFolder folder;
  put(folder / "config.json", "{}");
  const std::vector<std::string> foreign{"model-notes.safetensors", "model-g-00001-of-00002.safetensors",
                                         "model-00001-of-.safetensors",
                                         "model-00001-of-00002.safetensors.bak"};
  for (const std::string& name : foreign) put(folder / name, "not ours");
  float seed = 0;
  for (const std::size_t from : {std::size_t{0}, std::size_t{1}, std::size_t{24}}) {
    for (const std::size_t to : {std::size_t{0}, std::size_t{1}, std::size_t{24}}) {
      const Weights before(4, seed += 100), after(4, seed += 100);
      write_tensor_folder(folder.path(), before.tensors, from);
      write_tensor_folder(folder.path(), after.tensors, to);
      expect_holds_weights(folder.path(), after);
      const std::size_t weights = to == 0 ? 1 : to == 1 ? 5 : 4;  // shards and their index
      EXPECT_EQ(names_in(folder.path()).size(), weights + 1 + foreign.size());
    }
  }
}

// The two states in which a crash can leave the folder between the layouts: each reads as one whole layout.
TEST(TensorFolder, AnInterruptedChangeOfLayoutIsWhole) {
  const TemporaryFolder folder, other;
  const Weights before(4), after(4, 100);
  write_tensor_folder(folder.path(), before.tensors, 0);
  write_tensor_folder(other.path(), after.tensors, 24);
  for (const std::string& name : names_in(other.path())) fs::copy(other / name, folder / name);
  expect_holds_weights(folder.path(), before);  // the new index is there, model.safetensors not yet removed
  write_tensor_folder(folder.path(), after.tensors, 24);
  expect_holds_weights(folder.path(), after);
}

// A reader with the old index in hand must never meet new shards under the old names.
TEST(TensorFolder, TheShardsOfThePresentIndexAreNotOverwritten) {
  const TemporaryFolder folder;
  write_tensor_folder(folder.path(), Weights(4).tensors, 24);
  const auto before = read_json(folder / "model.safetensors.index.json")["weight_map"];
  write_tensor_folder(folder.path(), Weights(4, 100).tensors, 24);
  const auto after = read_json(folder / "model.safetensors.index.json")["weight_map"];
  for (const auto& [name, shard] : before.items()) EXPECT_NE(shard, after[name]);
}

class IndexTest : public testing::Test {
 protected:
  IndexTest() {
    write_safetensors(folder_ / "one.safetensors", {weights_.tensors[0]});
    write_safetensors(folder_ / "two.safetensors", {weights_.tensors[1], weights_.tensors[2]});
  }
  std::string error(const std::string& index) {
    put(folder_ / "model.safetensors.index.json", index);
    return message_of([&] { TensorFiles(folder_.path()); });
  }
  const Weights weights_{3};
  const TemporaryFolder folder_;
};

TEST_F(IndexTest, ReadsForeignShardNames) {
  put(folder_ / "model.safetensors.index.json",
      R"({"metadata":null,"weight_map":{"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"}})");
  expect_holds_weights(folder_.path(), weights_);
}

TEST_F(IndexTest, RejectsMalformedIndexes) {
  EXPECT_HOLDS(error("{"), "model.safetensors.index.json: invalid JSON");
  EXPECT_HOLDS(error("{}"), "field 'weight_map' is missing");
  EXPECT_HOLDS(error(R"({"weight_map":[]})"), "field 'weight_map' expected an object");
  EXPECT_HOLDS(error(R"({"weight_map":{"a":1}})"), "field 'weight_map.a' is the number 1, expected a string");
  EXPECT_HOLDS(error(R"({"weight_map":{"a":"x","a":"y"}})"), "key 'a' occurs twice");
  EXPECT_HOLDS(error(R"({"weight_map":{},"metadata":3})"), "field 'metadata' expected an object");
  for (const char* shard :
       {"../one.safetensors", "/one.safetensors", "sub/one.safetensors", "..", ".", "", "a\\\\b"}) {
    EXPECT_HOLDS(error(R"({"weight_map":{"a":")" + std::string(shard) + "\"}}"), "is not a plain file name")
        << shard;
  }
}

TEST_F(IndexTest, RejectsTensorsThatAreNotWhereItSays) {
  const std::string b_c = R"("b":"two.safetensors","c":"two.safetensors")";
  EXPECT_HOLDS(error("{\"weight_map\":{" + b_c + R"(,"a":"none.safetensors"}})"), "none.safetensors");
  EXPECT_HOLDS(error("{\"weight_map\":{" + b_c + R"(,"a":"two.safetensors"}})"), "tensor 'a' is not there");
  EXPECT_HOLDS(error("{\"weight_map\":{" + b_c + R"(,"a":"one.safetensors","d":"one.safetensors"}})"),
               "tensor 'd' is not there");
  EXPECT_HOLDS(error(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})"),
               "two.safetensors: tensor 'c' is not in the weight_map");
  EXPECT_HOLDS(error(R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors"}})"),
               "two.safetensors: tensor 'b' should be in 'one.safetensors'");
}

TEST_F(IndexTest, RejectsTensorsInTwoShards) {
  write_safetensors(folder_ / "one.safetensors", {weights_.tensors[0], weights_.tensors[1]});
  EXPECT_HOLDS(error(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"}})"),
               "one.safetensors: tensor 'b' should be in 'two.safetensors'");
}

TEST(TensorFiles, NamesWhatIsMissing) {
  const TemporaryFolder folder;
  EXPECT_HOLDS(message_of([&] { TensorFiles(folder.path()); }), "neither model.safetensors nor");
  EXPECT_HOLDS(message_of([&] { TensorFiles(folder / "none"); }), (folder / "none").string());
  EXPECT_HOLDS(message_of([&] { TensorFiles(put(folder / "bad.safetensors", "x")); }),
               "bad.safetensors: 1 bytes");
}

}  // namespace

#include "braid/io/safetensors.h"

#include <cstring>

#include "tests/support/files.h"

namespace {

using namespace braid;
using namespace braid::io;
using test::message_of;

std::string image_of(std::string header, std::string_view data) {
  while (header.size() % 8 != 0) header += ' ';
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data);
}

// Aligned storage for an image.
struct Parsed {
  explicit Parsed(const std::string& image) : words(image.size() / 8 + 1) {
    std::memcpy(words.data(), image.data(), image.size());
    view = parse_safetensors(std::as_bytes(std::span(words)).first(image.size()), "a.safetensors");
  }
  std::vector<std::uint64_t> words;
  SafetensorsView view;
};

std::string error_in(const std::string& header, std::size_t data_bytes = 8) {
  return message_of([&] { Parsed(image_of(header, std::string(data_bytes, '\0'))); });
}

std::string entry(const std::string& fields) { return "{\"w\":{" + fields + "}}"; }

TEST(ParseSafetensors, ReadsTensorsInFileOrder) {
  const float values[] = {1, 2, 3};
  std::string data(reinterpret_cast<const char*>(values), sizeof values);
  const Parsed p(image_of(R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},
      "__metadata__":{"format":"pt","note":"x"},
      "empty":{"dtype":"F64","shape":[0,3],"data_offsets":[4,4]},
      "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
                          data));
  ASSERT_EQ(p.view.tensors.size(), 3u);
  EXPECT_EQ(p.view.tensors[0].name, "a");
  EXPECT_EQ(p.view.tensors[0].tensor.shape, Shape{});
  EXPECT_EQ(p.view.tensors[0].tensor.as<float>()[0], 1);
  EXPECT_EQ(p.view.tensors[1].name, "empty");
  EXPECT_EQ(p.view.tensors[1].tensor.count(), 0);
  EXPECT_EQ(p.view.tensors[2].name, "b");
  EXPECT_EQ(p.view.tensors[2].tensor.as<float>()[1], 3);
  EXPECT_EQ(p.view.metadata, (std::map<std::string, std::string>{{"format", "pt"}, {"note", "x"}}));
}

TEST(ParseSafetensors, KnowsTheElementTypes) {
  const std::pair<const char*, DType> types[] = {
      {"F32", DType::f32}, {"F64", DType::f64}, {"BF16", DType::bf16}, {"F16", DType::f16},
      {"I32", DType::i32}, {"I64", DType::i64}, {"U8", DType::u8},     {"BOOL", DType::u8}};
  for (const auto& [name, dtype] : types) {
    const std::size_t bytes = size_of(dtype);
    const std::string header = entry("\"dtype\":\"" + std::string(name) +
                                     "\",\"shape\":[1],\"data_offsets\":[0," + std::to_string(bytes) + "]");
    EXPECT_EQ(Parsed(image_of(header, std::string(bytes, '\0'))).view.tensors[0].tensor.dtype, dtype) << name;
  }
  EXPECT_HOLDS(error_in(entry(R"("dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8])")),
               "a.safetensors: tensor 'w': dtype 'F8_E4M3' is not supported");
}

TEST(ParseSafetensors, ReadsTheGoldenFiles) {
  for (const char* name : {"hybrid", "hybrid-nope", "hybrid-gqa-gva", "olmo3", "olmo3-yarn"}) {
    EXPECT_GT(TensorFiles(test::golden(name)).tensors().size(), 30u);
    const TensorFiles golden(test::golden(name) / "golden.safetensors");
    EXPECT_EQ(golden.at("input_ids").dtype, DType::i64);
    EXPECT_EQ(golden.at("logits").shape[-1], 320);
    EXPECT_GT(golden.at("loss").as<float>()[0], 5.0f);  // ln 320 = 5.77
    EXPECT_LT(golden.at("loss").as<float>()[0], 7.0f);
  }
}

TEST(ParseSafetensors, RejectsBadLengths) {
  const auto error = [](std::string image) { return message_of([&] { Parsed{image}; }); };
  EXPECT_HOLDS(error(""), "a.safetensors: 0 bytes are too few");
  EXPECT_HOLDS(error(std::string(7, 'x')), "7 bytes are too few");
  EXPECT_HOLDS(error(std::string(8, '\xff')), "header length 18446744073709551615 exceeds the limit");
  EXPECT_HOLDS(error(std::string("\x01\xe1\xf5\x05\0\0\0\0", 8)),
               "header length 100000001 exceeds the limit");
  EXPECT_HOLDS(error(std::string("\x10\0\0\0\0\0\0\0{}", 10)),
               "header length 16 exceeds the file, which has 10");
  EXPECT_HOLDS(error(std::string(8, '\0')), "does not start with '{'");
}

TEST(ParseSafetensors, RejectsMalformedJson) {
  EXPECT_HOLDS(error_in("[]"), "does not start with '{'");
  EXPECT_HOLDS(error_in(" {}"), "does not start with '{'");
  EXPECT_HOLDS(error_in("{\"w\":"), "a.safetensors: the header is not valid JSON at byte ");
  EXPECT_HOLDS(error_in("{}{}"), "the header is not valid JSON at byte ");
  EXPECT_HOLDS(error_in("{\"\xff\":1}"), "the header is not valid JSON at byte ");
  EXPECT_HOLDS(error_in(std::string("{}\0\0\0\0\0\0", 8)), "NUL byte");
  EXPECT_HOLDS(error_in("{\"a\":" + std::string(1'000'000, '[')),
               "tensor 'a' must be an object, found an array");
  EXPECT_HOLDS(error_in(entry("\"shape\":" + std::string(1'000'000, '['))), "tensor 'w': shape must hold");
}

TEST(ParseSafetensors, RejectsDuplicateKeysEverywhere) {
  const std::string ok = R"("dtype":"U8","shape":[8],"data_offsets":[0,8])";
  EXPECT_EQ(error_in("{\"w\":{" + ok + "},\"w\":{" + ok + "}}"), "a.safetensors: tensor 'w' occurs twice");
  EXPECT_EQ(error_in(entry("\"dtype\":\"U8\"," + ok)), "a.safetensors: tensor 'w': dtype occurs twice");
  EXPECT_EQ(error_in(entry("\"shape\":[8]," + ok)), "a.safetensors: tensor 'w': shape occurs twice");
  EXPECT_EQ(error_in(entry("\"data_offsets\":[0,8]," + ok)),
            "a.safetensors: tensor 'w': data_offsets occurs twice");
  EXPECT_EQ(error_in(R"({"__metadata__":{"k":"a","k":"b"}})"),
            "a.safetensors: __metadata__ key 'k' occurs twice");
  EXPECT_EQ(error_in(R"({"__metadata__":{},"__metadata__":{}})"), "a.safetensors: __metadata__ occurs twice");
}

TEST(ParseSafetensors, RejectsWrongTypesAndFields) {
  const std::string t = "a.safetensors: tensor 'w': ";
  EXPECT_EQ(error_in(entry(R"("shape":[8],"data_offsets":[0,8])")), t + "dtype is missing");
  EXPECT_EQ(error_in(entry(R"("dtype":"U8","data_offsets":[0,8])")), t + "shape is missing");
  EXPECT_EQ(error_in(entry(R"("dtype":"U8","shape":[8])")), t + "data_offsets is missing");
  EXPECT_EQ(error_in(entry(R"("strides":[1])")), t + "unknown field 'strides'");
  EXPECT_EQ(error_in(entry(R"("dtype":3)")), t + "dtype must be a string, found the number 3");
  EXPECT_EQ(error_in(entry(R"("dtype":["U8"])")), t + "dtype must be a string, found an array");
  EXPECT_EQ(error_in(entry(R"("shape":8)")),
            t + "shape must be an array of non-negative integers, found the number 8");
  EXPECT_EQ(error_in(entry(R"("shape":{})")),
            t + "shape must be an array of non-negative integers, found an object");
  EXPECT_EQ(error_in(entry(R"("shape":[[8]])")), t + "shape must hold non-negative integers, found an array");
  EXPECT_EQ(error_in(entry(R"("shape":["8"])")),
            t + "shape must hold non-negative integers, found the string '8'");
  EXPECT_EQ(error_in(entry(R"("shape":[null])")), t + "shape must hold non-negative integers, found null");
  EXPECT_EQ(error_in(entry(R"("shape":[true])")), t + "shape must hold non-negative integers, found true");
  EXPECT_HOLDS(error_in(entry(R"("data_offsets":"0")")), t + "data_offsets must be an array of two");
  EXPECT_EQ(error_in(R"({"w":[]})"), "a.safetensors: tensor 'w' must be an object, found an array");
  EXPECT_EQ(error_in(R"({"w":"x"})"), "a.safetensors: tensor 'w' must be an object, found the string 'x'");
  EXPECT_EQ(error_in(R"({"__metadata__":[]})"),
            "a.safetensors: __metadata__ must be an object, found an array");
  EXPECT_EQ(error_in(R"({"__metadata__":{"k":1}})"),
            "a.safetensors: __metadata__ key 'k' must be a string, found the number 1");
  EXPECT_EQ(error_in(R"({"":{}})"), "a.safetensors: a tensor has an empty name");
}

TEST(ParseSafetensors, RejectsBadNumbers) {
  const std::string t = "a.safetensors: tensor 'w': ";
  EXPECT_EQ(error_in(entry(R"("shape":[-1])")),
            t + "shape must hold non-negative integers, found the number -1");
  EXPECT_EQ(error_in(entry(R"("shape":[8.0])")),
            t + "shape must hold non-negative integers, found the number 8.0");
  EXPECT_EQ(error_in(entry(R"("data_offsets":[0,1e1])")),
            t + "data_offsets must hold non-negative integers, found the number 1e1");
  EXPECT_HOLDS(error_in(entry(R"("data_offsets":[0,18446744073709551616])")),
               "found the number 18446744073709551616");
  EXPECT_EQ(error_in(entry(R"("shape":[9223372036854775808])")),
            t + "shape has the dimension 9223372036854775808, which is too large");
  EXPECT_EQ(error_in(entry(R"("shape":[1,1,1,1,1,1])")), t + "shape has more than 5 dimensions");
  EXPECT_EQ(error_in(entry(R"("data_offsets":[0])")), t + "data_offsets has 1 values, expected two");
  EXPECT_EQ(error_in(entry(R"("data_offsets":[])")), t + "data_offsets has 0 values, expected two");
  EXPECT_EQ(error_in(entry(R"("data_offsets":[0,8,8])")), t + "data_offsets has more than two values");
  for (const char* shape :
       {"[4294967296,4294967296]", "[4294967296,4294967296,0]", "[2305843009213693952]"}) {
    EXPECT_HOLDS(error_in(entry(R"("dtype":"F64","data_offsets":[0,8],"shape":)" + std::string(shape))),
                 "overflows");
  }
}

TEST(ParseSafetensors, RejectsOffsetsThatDoNotTileTheData) {
  const auto two = [](const std::string& a, const std::string& b) {
    const std::string u8 = R"({"dtype":"U8","shape":[4],"data_offsets":)";
    return "{\"a\":" + u8 + a + "},\"b\":" + u8 + b + "}}";
  };
  const auto one = [](const std::string& offsets) {
    return entry(R"("dtype":"U8","shape":[8],"data_offsets":)" + offsets);
  };
  EXPECT_HOLDS(error_in(one("[8,0]")), "tensor 'w': data_offsets [8, 0] run backwards");
  EXPECT_HOLDS(error_in(one("[0,9]")), "tensor 'w': data_offsets [0, 9] exceed the 8 bytes of data");
  EXPECT_HOLDS(error_in(one("[0,18446744073709551615]")), "exceed the 8 bytes of data");
  EXPECT_HOLDS(error_in(one("[0,4]")), "data_offsets [0, 4] hold 4 bytes, but u8 (8) needs 8");
  EXPECT_HOLDS(error_in(one("[1,9]"), 9), "tensor 'w': data_offsets [1, 9] leave a hole of 1 bytes");
  EXPECT_HOLDS(error_in(one("[0,8]"), 9), "a.safetensors: 1 bytes follow the last tensor");
  EXPECT_HOLDS(error_in("{}", 1), "1 bytes follow the last tensor");
  EXPECT_HOLDS(error_in(two("[0,4]", "[0,4]")), "tensor 'b': data_offsets [0, 4] overlap");
  EXPECT_HOLDS(error_in(two("[3,7]", "[0,4]")),
               "tensor 'a': data_offsets [3, 7] overlap the tensor before it");
  EXPECT_HOLDS(error_in(two("[0,4]", "[5,9]"), 9), "tensor 'b': data_offsets [5, 9] leave a hole of 1 bytes");
}

TEST(ParseSafetensors, RejectsUnalignedData) {
  EXPECT_HOLDS(error_in(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                            "b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})",
                        5),
               "tensor 'b': data starts at byte ");
}

TEST(ParseSafetensors, NamesInErrorsStayOnOneLine) {
  EXPECT_HOLDS(error_in(R"({"a\nb":1})"), "tensor 'a\\x0ab' must be an object");
  EXPECT_LT(error_in("{\"" + std::string(10'000, 'x') + "\":1}").size(), 300u);
}

}  // namespace

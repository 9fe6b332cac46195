// The JSON header of a safetensors file, checked field by field but not yet against the data.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "braid/core/tensor.h"

namespace braid::io {

struct HeaderEntry {
  std::string name;
  std::optional<DType> dtype;
  std::optional<Shape> shape;
  std::optional<std::array<std::uint64_t, 2>> data_offsets;  // [begin, end) in the data part
};

struct SafetensorsHeader {
  std::vector<HeaderEntry> entries;  // in file order; every field present
  std::map<std::string, std::string> metadata;
};

SafetensorsHeader parse_safetensors_header(std::string_view text, const std::string& source);

std::optional<DType> dtype_of_safetensors(std::string_view name);  // "F32", "BOOL", ...
std::string_view safetensors_name_of(DType dtype);

}  // namespace braid::io

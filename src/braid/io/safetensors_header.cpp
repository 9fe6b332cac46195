#include "braid/io/safetensors_header.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "braid/io/quote.h"

namespace braid::io {
namespace {

using nlohmann::json;

constexpr std::string_view kMetadata = "__metadata__";
// Reading takes the first match of a name, writing the first match of a type.
constexpr std::pair<std::string_view, DType> kDTypes[] = {
    {"F32", DType::f32}, {"F64", DType::f64}, {"BF16", DType::bf16}, {"F16", DType::f16},
    {"I32", DType::i32}, {"I64", DType::i64}, {"U8", DType::u8},     {"BOOL", DType::u8}};

// Follows the one legal structure {name: {dtype, shape: [..], data_offsets: [..]}, __metadata__: {key:
// string}} event by event, so that nothing else (deeper nesting, other types, repeated keys) is ever stored.
class HeaderParser : public json::json_sax_t {
 public:
  explicit HeaderParser(const std::string& source) : source_(source) {}
  SafetensorsHeader take() { return std::move(header_); }

  bool null() override { unexpected("null"); }
  bool boolean(bool v) override { unexpected(v ? "true" : "false"); }
  bool number_integer(json::number_integer_t v) override { unexpected(fmt::format("the number {}", v)); }
  bool number_float(json::number_float_t, const std::string& raw) override {
    unexpected("the number " + raw);
  }
  bool binary(json::binary_t&) override { unexpected("binary data"); }
  bool number_unsigned(json::number_unsigned_t v) override;
  bool string(std::string& v) override;
  bool start_object(std::size_t) override;
  bool end_object() override;
  bool start_array(std::size_t) override;
  bool end_array() override;
  bool key(std::string& name) override;
  bool parse_error(std::size_t byte, const std::string&, const json::exception& error) override {
    std::string_view reason = error.what();
    if (const auto at = reason.find(": "); at != reason.npos) reason.remove_prefix(at + 2);
    fail("{}: the header is not valid JSON at byte {} of it: {}", source_, byte, in_quotes(reason));
  }

 private:
  enum class Place { start, top, entry, metadata, shape, data_offsets };

  HeaderEntry& entry() { return header_.entries.back(); }
  [[noreturn]] void unexpected(const std::string& found) const;
  void finish_entry();

  const std::string& source_;
  SafetensorsHeader header_;
  std::unordered_set<std::string> names_;
  bool has_metadata_ = false;
  Place place_ = Place::start;
  std::string name_, field_;  // last key of the top level, last key inside it
  std::size_t offsets_ = 0;   // values of data_offsets seen
};

void HeaderParser::unexpected(const std::string& found) const {
  switch (place_) {
    case Place::start:
      fail("{}: the header must be an object, found {}", source_, found);
    case Place::top:
      if (name_ == kMetadata) fail("{}: {} must be an object, found {}", source_, kMetadata, found);
      fail("{}: tensor {} must be an object, found {}", source_, in_quotes(name_), found);
    case Place::metadata:
      fail("{}: {} key {} must be a string, found {}", source_, kMetadata, in_quotes(field_), found);
    case Place::entry: {
      const std::string_view expected = field_ == "dtype"   ? "a string"
                                        : field_ == "shape" ? "an array of non-negative integers"
                                                            : "an array of two non-negative integers";
      fail("{}: tensor {}: {} must be {}, found {}", source_, in_quotes(name_), field_, expected, found);
    }
    case Place::shape:
    case Place::data_offsets:
      fail("{}: tensor {}: {} must hold non-negative integers, found {}", source_, in_quotes(name_), field_,
           found);
  }
  fail("{}: unexpected {}", source_, found);
}

bool HeaderParser::key(std::string& name) {
  if (place_ == Place::top) {
    name_ = name, field_.clear();
    if (name == kMetadata) {
      require(!std::exchange(has_metadata_, true), "{}: {} occurs twice", source_, kMetadata);
    } else {
      require(!name.empty(), "{}: a tensor has an empty name", source_);
      require(names_.insert(name).second, "{}: tensor {} occurs twice", source_, in_quotes(name));
    }
  } else if (place_ == Place::metadata) {
    field_ = name;
    require(header_.metadata.emplace(name, "").second, "{}: {} key {} occurs twice", source_, kMetadata,
            in_quotes(name));
  } else {
    field_ = name;
    const HeaderEntry& e = entry();
    const bool known = name == "dtype" || name == "shape" || name == "data_offsets";
    require(known, "{}: tensor {}: unknown field {}", source_, in_quotes(name_), in_quotes(name));
    const bool seen = name == "dtype"   ? e.dtype.has_value()
                      : name == "shape" ? e.shape.has_value()
                                        : offsets_ != 0;
    require(!seen, "{}: tensor {}: {} occurs twice", source_, in_quotes(name_), name);
  }
  return true;
}

bool HeaderParser::string(std::string& v) {
  if (place_ == Place::metadata) {
    header_.metadata[field_] = std::move(v);
  } else if (place_ == Place::entry && field_ == "dtype") {
    entry().dtype = dtype_of_safetensors(v);
    require(entry().dtype.has_value(),
            "{}: tensor {}: dtype {} is not supported, expected F32, F64, BF16, F16, I32, I64, U8 or BOOL",
            source_, in_quotes(name_), in_quotes(v));
  } else {
    unexpected("the string " + in_quotes(v));
  }
  return true;
}

bool HeaderParser::number_unsigned(json::number_unsigned_t v) {
  if (place_ == Place::data_offsets) {
    require(offsets_ < 2, "{}: tensor {}: data_offsets has more than two values", source_, in_quotes(name_));
    (*entry().data_offsets)[offsets_++] = v;
  } else if (place_ == Place::shape) {
    Shape& shape = *entry().shape;
    require(shape.rank < Shape::kMaxRank, "{}: tensor {}: shape has more than {} dimensions", source_,
            in_quotes(name_), Shape::kMaxRank);
    require(v <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()),
            "{}: tensor {}: shape has the dimension {}, which is too large", source_, in_quotes(name_), v);
    shape.dims[static_cast<std::size_t>(shape.rank++)] = static_cast<std::int64_t>(v);
  } else {
    unexpected(fmt::format("the number {}", v));
  }
  return true;
}

bool HeaderParser::start_object(std::size_t) {
  if (place_ == Place::start) {
    place_ = Place::top;
  } else if (place_ == Place::top && name_ == kMetadata) {
    place_ = Place::metadata;
  } else if (place_ == Place::top) {
    place_ = Place::entry;
    offsets_ = 0;
    header_.entries.push_back({name_, {}, {}, {}});
  } else {
    unexpected("an object");
  }
  return true;
}

bool HeaderParser::end_object() {
  if (place_ == Place::entry) finish_entry();
  place_ = Place::top;
  return true;
}

bool HeaderParser::start_array(std::size_t) {
  if (place_ == Place::entry && field_ == "shape") {
    place_ = Place::shape;
    entry().shape = Shape{};
  } else if (place_ == Place::entry && field_ == "data_offsets") {
    place_ = Place::data_offsets;
    entry().data_offsets.emplace();
  } else {
    unexpected("an array");
  }
  return true;
}

bool HeaderParser::end_array() {
  require(place_ != Place::data_offsets || offsets_ == 2,
          "{}: tensor {}: data_offsets has {} values, expected two", source_, in_quotes(name_), offsets_);
  place_ = Place::entry;
  return true;
}

void HeaderParser::finish_entry() {
  const HeaderEntry& e = entry();
  const std::string_view missing = !e.dtype          ? "dtype"
                                   : !e.shape        ? "shape"
                                   : !e.data_offsets ? "data_offsets"
                                                     : "";
  require(missing.empty(), "{}: tensor {}: {} is missing", source_, in_quotes(name_), missing);
}

}  // namespace

std::optional<DType> dtype_of_safetensors(std::string_view name) {
  for (const auto& [known, dtype] : kDTypes) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

std::string_view safetensors_name_of(DType dtype) {
  for (const auto& [name, known] : kDTypes) {
    if (known == dtype) return name;
  }
  fail("dtype {} has no safetensors name", braid::name_of(dtype));
}

SafetensorsHeader parse_safetensors_header(std::string_view text, const std::string& source) {
  require(!text.empty() && text[0] == '{', "{}: the header does not start with '{{'", source);
  // The lexer takes a NUL byte for the end of the text, which would hide whatever follows.
  require(text.find('\0') == text.npos, "{}: the header holds a NUL byte", source);
  HeaderParser parser(source);
  json::sax_parse(text, &parser);
  return parser.take();
}

}  // namespace braid::io

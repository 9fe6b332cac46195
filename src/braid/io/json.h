// JSON files from anywhere: strict parsing and typed access with errors a person can act on.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "braid/io/files.h"

namespace braid::io {

// Strict JSON: no duplicate keys, at most kMaxJsonDepth levels, nothing after the value. `source` (a file
// name) starts every error, which also gives the byte (syntax) or the dotted path (duplicates, depth).
inline constexpr std::size_t kMaxJsonDepth = 64;
nlohmann::json parse_json(std::string_view text, const std::string& source);
nlohmann::json read_json(const fs::path& path);

// "an object", "the number 3", "the string 'x'": what was found, for error messages.
std::string describe_json(const nlohmann::json& value);

// Typed reading of one JSON object. A key with the value null counts as absent. Errors name source, field,
// what was found and what is expected. Refers to the object, which must outlive it.
class Fields {
 public:
  static constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
  static constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

  // `where` is the dotted path of the object inside the source; empty for the root.
  Fields(const nlohmann::json& object, std::string source, std::string where = "");

  bool has(std::string_view key) const { return find(key) != nullptr; }
  std::int64_t integer(std::string_view key, std::int64_t min = kMin, std::int64_t max = kMax) const;
  std::int64_t integer_or(std::string_view key, std::int64_t fallback, std::int64_t min = kMin,
                          std::int64_t max = kMax) const;
  double number(std::string_view key, double min = -kInfinity, double max = kInfinity) const;
  double number_or(std::string_view key, double fallback, double min = -kInfinity,
                   double max = kInfinity) const;
  bool boolean(std::string_view key) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  std::string string(std::string_view key) const;
  std::string string_or(std::string_view key, std::string_view fallback) const;
  std::vector<std::int64_t> integers(std::string_view key, std::int64_t min = kMin,
                                     std::int64_t max = kMax) const;
  std::vector<double> numbers(std::string_view key) const;
  std::vector<std::string> strings(std::string_view key) const;
  const nlohmann::json& array(std::string_view key) const;
  Fields object(std::string_view key) const;
  const nlohmann::json* find(std::string_view key) const;  // null when absent or JSON null
  const nlohmann::json& at(std::string_view key) const;    // error when absent or JSON null

  // Error naming the first key that is not in `known`, with the nearest one that is.
  void allow_only(std::initializer_list<std::string_view> known) const;
  // Throws "SOURCE: field 'where.key' PROBLEM", for checks that only the caller can make.
  [[noreturn]] void reject(std::string_view key, std::string_view problem) const;

  const nlohmann::json& value() const { return *object_; }
  const std::string& source() const { return source_; }
  std::string path_of(std::string_view key) const;

 private:
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const nlohmann::json* object_;
  std::string source_, where_;
};

}  // namespace braid::io

// TOML recipes: reading, command-line overrides, typed access that knows which keys nobody asked for.
#pragma once
#include <toml++/toml.h>

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "braid/io/files.h"

namespace braid::io {

toml::table parse_toml(std::string_view text, const std::string& source);
toml::table read_toml(const fs::path& path);
// "train.steps=100": the value is TOML; a bare word becomes a string; missing tables are made.
void apply_override(toml::table& table, std::string_view assignment);

// Typed reading of a table. Errors name source, line and dotted key. Keys are dotted and relative to the
// table: integer("train.steps"). Every key asked for is recorded, in one record shared with the tables that
// table() returns, and finish() rejects the keys of the file that were never asked for. Refers to the root
// table.
class TomlFields {
 public:
  static constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
  static constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

  TomlFields(const toml::table& root, std::string source);

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
  // [[a, b], …]; empty when absent.
  std::vector<std::array<std::int64_t, 2>> integer_pairs(std::string_view key, std::int64_t min = kMin,
                                                         std::int64_t max = kMax) const;
  std::vector<double> numbers(std::string_view key) const;
  std::vector<std::string> strings(std::string_view key) const;
  TomlFields table(std::string_view key) const;                // error when absent
  TomlFields table_or_empty(std::string_view key) const;       // an empty table when absent
  std::vector<TomlFields> tables(std::string_view key) const;  // [[key]]; empty when absent

  // Throws, naming every key below the root that was never asked for, and the nearest key that was.
  void finish() const;
  // Throws "SOURCE:LINE: 'key' PROBLEM", for checks that only the caller can make.
  [[noreturn]] void reject(std::string_view key, std::string_view problem) const;
  const std::string& source() const;
  std::string path_of(std::string_view key) const;

 private:
  struct Record;
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  TomlFields(const toml::table* table, std::string where, std::shared_ptr<Record> record);
  const toml::node* find(std::string_view key) const;
  const toml::node& at(std::string_view key, std::string_view expected) const;
  const toml::array& array_at(std::string_view key, std::string_view expected) const;
  [[noreturn]] void wrong(std::string_view key, const toml::node& found, const std::string& expected) const;

  const toml::table* table_;
  std::string where_;
  std::shared_ptr<Record> record_;
};

}  // namespace braid::io

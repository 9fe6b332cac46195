#include "braid/io/toml.h"

#include <algorithm>

#include "braid/io/quote.h"

namespace braid::io {
namespace {

bool is_bare_key(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

std::string_view trimmed(std::string_view s) {
  const auto begin = s.find_first_not_of(" \t");
  return begin == s.npos ? std::string_view() : s.substr(begin, s.find_last_not_of(" \t") - begin + 1);
}

// The table {v = VALUE}. What starts like a TOML string, array or table must be one; else a bare word is a
// string.
toml::table parse_value(std::string_view value, std::string_view assignment) {
  const bool structured = std::string_view("\"'[{").find(value[0]) != std::string_view::npos;
  const bool comment = !structured && value.find('#') != value.npos;
  try {
    if (!comment) return toml::parse("v = " + std::string(value));
  } catch (const toml::parse_error& error) {
    require(!structured, "override {}: the value is not valid TOML: {}", in_quotes(assignment),
            error.description());
  }
  toml::table word;
  word.insert("v", std::string(value));
  return word;
}

}  // namespace

toml::table parse_toml(std::string_view text, const std::string& source) {
  try {
    return toml::parse(text, source);
  } catch (const toml::parse_error& error) {
    const toml::source_position at = error.source().begin;
    fail("{}:{}: invalid TOML at column {}: {}", source, at.line, at.column, in_quotes(error.description()));
  }
}

toml::table read_toml(const fs::path& path) { return parse_toml(read_file(path), path.string()); }

void apply_override(toml::table& table, std::string_view assignment) {
  const auto equals = assignment.find('=');
  require(equals != assignment.npos, "override {}: expected KEY=VALUE", in_quotes(assignment));
  const std::string_view value = trimmed(assignment.substr(equals + 1));
  require(!value.empty(), "override {}: no value after '='; write KEY='' for an empty string",
          in_quotes(assignment));
  // One line is one value: a line break could smuggle in further keys.
  require(value.find_first_of("\r\n") == value.npos, "override {}: the value spans lines",
          in_quotes(assignment));

  std::string_view key = trimmed(assignment.substr(0, equals));
  toml::table* at = &table;
  for (;;) {
    const auto dot = key.find('.');
    const std::string_view part = key.substr(0, dot);
    require(is_bare_key(part),
            "override {}: {} is not a key; expected letters, digits, '_', '-' between dots",
            in_quotes(assignment), in_quotes(part));
    toml::node* child = at->get(part);
    if (dot == key.npos) {
      const toml::table parsed = parse_value(value, assignment);
      const toml::node& node = *parsed.get("v");
      require(child == nullptr || !child->is_table() || node.is_table(),
              "override {}: {} is a table, not a value", in_quotes(assignment), in_quotes(part));
      at->insert_or_assign(part, node);  // the copy has no line number, which marks it as an override
      return;
    }
    if (child == nullptr) child = &at->insert(part, toml::table{}).first->second;
    require(child->is_table(), "override {}: {} is not a table", in_quotes(assignment), in_quotes(part));
    at = child->as_table();
    key.remove_prefix(dot + 1);
  }
}

}  // namespace braid::io

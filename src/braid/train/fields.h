// What the tables of a recipe share in being read.
#pragma once
#include <filesystem>
#include <initializer_list>
#include <utility>

#include "braid/io/quote.h"
#include "braid/io/toml.h"

namespace braid::train {

namespace fs = std::filesystem;

// Upper limits of counts (steps), of tokens, and of sizes (widths, lengths).
inline constexpr std::int64_t kMaxCount = std::int64_t{1} << 40, kMaxTokens = std::int64_t{1} << 50,
                              kMaxSize = std::int64_t{1} << 24;

// One of the named choices; another name is an error that lists them.
template <class T>
T choose(const io::TomlFields& f, std::string_view key, std::string_view fallback,
         std::initializer_list<std::pair<std::string_view, T>> choices) {
  const auto text = f.string_or(key, fallback);
  std::string names;
  for (const auto& [name, value] : choices) {
    if (text == name) return value;
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  f.reject(key, fmt::format("is {}, expected one of {}", io::in_quotes(text), names));
}

// File names; none where the key is absent.
inline std::vector<fs::path> paths(const io::TomlFields& f, std::string_view key) {
  std::vector<fs::path> out;
  if (!f.has(key)) return out;
  for (const auto& text : f.strings(key)) out.emplace_back(text);
  return out;
}

}  // namespace braid::train

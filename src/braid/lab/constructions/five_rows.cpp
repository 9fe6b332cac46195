#include "braid/lab/constructions/five_rows.h"

#include <fmt/format.h>

#include <cmath>

namespace braid::lab {
namespace {

constexpr char kNames[] = "abcde";

void set_pair(const Matrix& m, std::int64_t row, std::int64_t column, float value) {
  m(row, column) = value;
  m(row + 1, column) = value;
}

double silu(double x) { return x / (1 + std::exp(-x)); }

}  // namespace

void FiveRows::load(const Matrix& key, std::int64_t first_row, std::int64_t coordinate,
                    std::int64_t variable) const {
  set_pair(key, first_row + 2 * variable, coordinate, kKey);
  set_pair(key, first_row + 2 * kVariables + (scratch > 2 ? 2 * variable : 0), coordinate, kKey);
}

void FiveRows::swap(const Matrix& key, std::int64_t first_row, std::int64_t coordinate,
                    const VariablePair& pair) {
  set_pair(key, first_row + 2 * pair.i, coordinate, kKey);
  set_pair(key, first_row + 2 * pair.j, coordinate, kKey);
}

void FiveRows::swap_by_difference(const Matrix& key, std::int64_t first_row, std::int64_t coordinate,
                                  const VariablePair& pair) {
  constexpr double kLowest = -1.2784645427610738;  // where SiLU is least
  const double least = -silu(kLowest);
  double low = 0, high = 1;  // of the x > 0 with SiLU(x) = least
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (silu(middle) < least ? low : high) = middle;
  }
  set_pair(key, first_row + 2 * pair.i, coordinate, static_cast<float>(low));
  set_pair(key, first_row + 2 * pair.j, coordinate, static_cast<float>(kLowest));
}

void FiveRows::read(const Matrix& query, std::int64_t first_row, std::int64_t coordinate,
                    std::int64_t variable) const {
  query(first_row + 2 * variable, coordinate) = kKey / 8192;  // SiLU halves what is small
  query(first_row + empty(), coordinate) = kKey;
}

std::vector<VariablePair> variable_pairs() {
  std::vector<VariablePair> pairs;
  for (std::int64_t i = 0; i < kVariables; ++i) {
    for (std::int64_t j = i + 1; j < kVariables; ++j) pairs.push_back({i, j});
  }
  return pairs;
}

std::string swap_word(const VariablePair& pair) {
  return fmt::format("{},{}", kNames[pair.i], kNames[pair.j]);
}
std::string question_word(std::int64_t variable) { return fmt::format("{}?", kNames[variable]); }
std::string bit_question_word(std::int64_t variable) { return fmt::format("bits[{}]?", kNames[variable]); }
std::string answer_word(std::int64_t value) { return fmt::format("={}", value); }
std::string pointer_word(std::int64_t variable, std::int64_t place) {
  return fmt::format("{}={}", kNames[variable], place);
}

}  // namespace braid::lab

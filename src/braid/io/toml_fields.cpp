#include <algorithm>
#include <set>

#include "braid/io/quote.h"
#include "braid/io/toml.h"

namespace braid::io {

struct TomlFields::Record {
  const toml::table* root;
  std::string source;
  std::set<std::string> asked;  // dotted keys from the root, whether or not the file has them
};

namespace {

std::string describe_toml(const toml::node& node) {
  if (node.is_table()) return "a table";
  if (node.is_array()) return fmt::format("an array of {}", node.as_array()->size());
  if (node.is_string()) return "the string " + in_quotes(node.as_string()->get());
  if (node.is_integer()) return fmt::format("the number {}", node.as_integer()->get());
  if (node.is_floating_point()) return fmt::format("the number {}", node.as_floating_point()->get());
  if (node.is_boolean()) return node.as_boolean()->get() ? "true" : "false";
  return "a date or time";
}

std::string place_of(const std::string& source, const toml::node& node) {
  const auto line = node.source().begin.line;  // 0: not from a file
  return line == 0 ? source + " (override)" : fmt::format("{}:{}", source, line);
}

std::string range_text(std::string_view what, std::int64_t min, std::int64_t max) {
  if (min == TomlFields::kMin && max == TomlFields::kMax) return std::string(what);
  if (max == TomlFields::kMax) return fmt::format("{} of at least {}", what, min);
  return fmt::format("{} from {} to {}", what, min, max);
}

bool is_integer_in(const toml::node& node, std::int64_t min, std::int64_t max) {
  return node.is_integer() && node.as_integer()->get() >= min && node.as_integer()->get() <= max;
}

bool is_array_of_tables(const toml::node& node) {
  return node.is_array() && !node.as_array()->empty() &&
         node.as_array()->is_homogeneous(toml::node_type::table);
}

// Calls fn(dotted key, node) for everything below `node` that is not a table with entries.
template <class Fn>
void visit_leaves(const toml::node& node, const std::string& path, Fn&& fn) {
  if (const toml::table* table = node.as_table(); table != nullptr && !table->empty()) {
    for (const auto& [key, child] : *table) {
      visit_leaves(child, path.empty() ? std::string(key.str()) : path + "." + std::string(key.str()), fn);
    }
  } else if (is_array_of_tables(node)) {
    for (std::size_t i = 0; i < node.as_array()->size(); ++i) {
      visit_leaves((*node.as_array())[i], fmt::format("{}[{}]", path, i), fn);
    }
  } else {
    fn(path, node);
  }
}

}  // namespace

TomlFields::TomlFields(const toml::table& root, std::string source)
    : table_(&root), record_(std::make_shared<Record>(Record{&root, std::move(source), {}})) {}

TomlFields::TomlFields(const toml::table* table, std::string where, std::shared_ptr<Record> record)
    : table_(table), where_(std::move(where)), record_(std::move(record)) {}

const std::string& TomlFields::source() const { return record_->source; }

std::string TomlFields::path_of(std::string_view key) const {
  return where_.empty() ? std::string(key) : where_ + "." + std::string(key);
}

const toml::node* TomlFields::find(std::string_view key) const {
  record_->asked.insert(path_of(key));
  const toml::table* table = table_;
  for (;;) {
    const auto dot = key.find('.');
    const toml::node* node = table->get(key.substr(0, dot));
    if (dot == key.npos || node == nullptr) return node;
    if (!node->is_table()) wrong(key.substr(0, dot), *node, "a table");
    table = node->as_table();
    key.remove_prefix(dot + 1);
  }
}

const toml::node& TomlFields::at(std::string_view key, std::string_view expected) const {
  const toml::node* node = find(key);
  if (node == nullptr) fail("{}: {} is missing, expected {}", source(), in_quotes(path_of(key)), expected);
  return *node;
}

void TomlFields::wrong(std::string_view key, const toml::node& found, const std::string& expected) const {
  fail("{}: {} is {}, expected {}", place_of(source(), found), in_quotes(path_of(key)), describe_toml(found),
       expected);
}

void TomlFields::reject(std::string_view key, std::string_view problem) const {
  const toml::node* node = find(key);
  fail("{}: {} {}", node != nullptr ? place_of(source(), *node) : source(), in_quotes(path_of(key)), problem);
}

std::int64_t TomlFields::integer(std::string_view key, std::int64_t min, std::int64_t max) const {
  const std::string expected = range_text("an integer", min, max);
  const toml::node& node = at(key, expected);
  if (!is_integer_in(node, min, max)) wrong(key, node, expected);
  return node.as_integer()->get();
}

std::int64_t TomlFields::integer_or(std::string_view key, std::int64_t fallback, std::int64_t min,
                                    std::int64_t max) const {
  return has(key) ? integer(key, min, max) : fallback;
}

double TomlFields::number(std::string_view key, double min, double max) const {
  const bool bounded = min != -kInfinity || max != kInfinity;
  const std::string expected = bounded ? fmt::format("a number from {} to {}", min, max) : "a number";
  const toml::node& node = at(key, expected);
  const std::optional<double> v = node.is_number() ? node.value<double>() : std::nullopt;
  if (!v || !(*v >= min && *v <= max)) wrong(key, node, expected);
  return *v;
}

double TomlFields::number_or(std::string_view key, double fallback, double min, double max) const {
  return has(key) ? number(key, min, max) : fallback;
}

bool TomlFields::boolean(std::string_view key) const {
  const toml::node& node = at(key, "true or false");
  if (!node.is_boolean()) wrong(key, node, "true or false");
  return node.as_boolean()->get();
}

bool TomlFields::boolean_or(std::string_view key, bool fallback) const {
  return has(key) ? boolean(key) : fallback;
}

std::string TomlFields::string(std::string_view key) const {
  const toml::node& node = at(key, "a string");
  if (!node.is_string()) wrong(key, node, "a string");
  return node.as_string()->get();
}

std::string TomlFields::string_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? string(key) : std::string(fallback);
}

const toml::array& TomlFields::array_at(std::string_view key, std::string_view expected) const {
  const toml::node& node = at(key, expected);
  if (!node.is_array()) wrong(key, node, std::string(expected));
  return *node.as_array();
}

std::vector<std::int64_t> TomlFields::integers(std::string_view key, std::int64_t min,
                                               std::int64_t max) const {
  std::vector<std::int64_t> out;
  for (const toml::node& v : array_at(key, "an array of integers")) {
    if (!is_integer_in(v, min, max)) {
      wrong(fmt::format("{}[{}]", key, out.size()), v, range_text("an integer", min, max));
    }
    out.push_back(v.as_integer()->get());
  }
  return out;
}

std::vector<std::array<std::int64_t, 2>> TomlFields::integer_pairs(std::string_view key, std::int64_t min,
                                                                   std::int64_t max) const {
  std::vector<std::array<std::int64_t, 2>> out;
  if (!has(key)) return out;
  for (const toml::node& v : array_at(key, "an array of pairs")) {
    const auto* pair = v.as_array();
    const bool good = pair != nullptr && pair->size() == 2 && is_integer_in((*pair)[0], min, max) &&
                      is_integer_in((*pair)[1], min, max);
    if (!good) wrong(fmt::format("{}[{}]", key, out.size()), v, range_text("a pair of integers", min, max));
    out.push_back({(*pair)[0].as_integer()->get(), (*pair)[1].as_integer()->get()});
  }
  return out;
}

std::vector<double> TomlFields::numbers(std::string_view key) const {
  std::vector<double> out;
  for (const toml::node& v : array_at(key, "an array of numbers")) {
    if (!v.is_number()) wrong(fmt::format("{}[{}]", key, out.size()), v, "a number");
    out.push_back(*v.value<double>());
  }
  return out;
}

std::vector<std::string> TomlFields::strings(std::string_view key) const {
  std::vector<std::string> out;
  for (const toml::node& v : array_at(key, "an array of strings")) {
    if (!v.is_string()) wrong(fmt::format("{}[{}]", key, out.size()), v, "a string");
    out.push_back(v.as_string()->get());
  }
  return out;
}

TomlFields TomlFields::table(std::string_view key) const {
  const toml::node& node = at(key, "a table");
  if (!node.is_table()) wrong(key, node, "a table");
  return TomlFields(node.as_table(), path_of(key), record_);
}

TomlFields TomlFields::table_or_empty(std::string_view key) const {
  static const toml::table empty;
  return has(key) ? table(key) : TomlFields(&empty, path_of(key), record_);
}

std::vector<TomlFields> TomlFields::tables(std::string_view key) const {
  std::vector<TomlFields> out;
  if (!has(key)) return out;
  for (const toml::node& v : array_at(key, "an array of tables")) {
    const std::string name = fmt::format("{}[{}]", key, out.size());
    if (!v.is_table()) wrong(name, v, "a table");
    record_->asked.insert(path_of(name));
    out.push_back(TomlFields(v.as_table(), path_of(name), record_));
  }
  return out;
}

void TomlFields::finish() const {
  std::set<std::string> asked = record_->asked;
  for (const std::string& key : record_->asked) {  // asking for train.steps also asks for train
    for (auto dot = key.find('.'); dot != key.npos; dot = key.find('.', dot + 1))
      asked.insert(key.substr(0, dot));
  }
  const std::vector<std::string> known(asked.begin(), asked.end());
  std::string unknown;
  visit_leaves(*record_->root, "", [&](const std::string& path, const toml::node& node) {
    if (path.empty() || asked.contains(path)) return;
    const auto line = node.source().begin.line;
    unknown += fmt::format("{}{} ({}{})", unknown.empty() ? "" : ", ", in_quotes(path),
                           line == 0 ? std::string("override") : fmt::format("line {}", line),
                           did_you_mean(path, known));
  });
  require(unknown.empty(), "{}: unknown keys: {}", source(), unknown);
}

}  // namespace braid::io

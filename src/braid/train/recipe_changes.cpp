#include "braid/train/recipe_changes.h"

#include <algorithm>
#include <array>
#include <map>
#include <sstream>

#include "braid/io/toml.h"

namespace braid::train {
namespace {

using Values = std::map<std::string, std::string>;

void flatten(Values& values, const toml::table& table, const std::string& prefix) {
  for (const auto& [key, node] : table) {
    const auto name = prefix + std::string(key.str());
    if (const auto* inner = node.as_table()) {
      flatten(values, *inner, name + ".");
      continue;
    }
    std::ostringstream text;
    node.visit([&](const auto& value) { text << value; });
    values[name] = text.str();
  }
}

Values values_of(const std::string& text, const std::string& source) {
  Values values;
  flatten(values, io::parse_toml(text, source), "");
  return values;
}

}  // namespace

std::vector<RecipeChange> recipe_changes(const std::string& before, const std::string& now) {
  const auto old_values = values_of(before, "recipe.toml of the run");
  const auto new_values = values_of(now, "recipe");
  auto keys = old_values;
  keys.insert(new_values.begin(), new_values.end());
  const auto value = [](const Values& values, const std::string& key) {
    const auto at = values.find(key);
    return at == values.end() ? "" : at->second;
  };
  std::vector<RecipeChange> changes;
  for (const auto& [key, unused] : keys) {
    RecipeChange change{key, value(old_values, key), value(new_values, key)};
    if (change.before != change.now) changes.push_back(std::move(change));
  }
  return changes;
}

bool may_change(const std::string& key) {
  constexpr std::array kKeys{"run.folder",   "run.tensorboard",        "data.folder",
                             "data.loaders", "train.micro_batch_size", "train.recompute"};
  return key.starts_with("checkpoint.") || std::ranges::find(kKeys, key) != kKeys.end();
}

}  // namespace braid::train

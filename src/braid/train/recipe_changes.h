// What may differ between the recipe that a run began with and the one that continues it.
#pragma once
#include <string>
#include <vector>

namespace braid::train {

struct RecipeChange {
  std::string key;          // dotted
  std::string before, now;  // TOML values; empty where the key is absent
};
// Keys with other values, in the order of their names.
std::vector<RecipeChange> recipe_changes(const std::string& before, const std::string& now);

// Whether a run may go on with another value: it says where things lie, how the work is cut, or what is kept,
// but not what is computed.
bool may_change(const std::string& key);

}  // namespace braid::train

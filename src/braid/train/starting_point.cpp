#include "braid/train/starting_point.h"

#include <algorithm>

#include "braid/io/json.h"

namespace braid::train {
namespace {

bool is_checkpoint(const fs::path& folder) { return fs::exists(folder / "training_state.json"); }

// The newest checkpoint of a run by the step that its state says; empty when there is none.
fs::path newest_checkpoint(const fs::path& run) {
  fs::path newest;
  std::int64_t newest_step = -1;
  if (!fs::is_directory(run / "checkpoints")) return newest;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints")) {
    const auto& path = entry.path();
    if (path.filename().string().starts_with('.') || !is_checkpoint(path)) continue;
    const auto json = io::read_json(path / "training_state.json");
    const auto step = io::Fields(json, (path / "training_state.json").string()).integer("step", 0);
    if (step > newest_step) newest = path, newest_step = step;
  }
  return newest;
}

}  // namespace

StartingPoint find_start(const fs::path& from, OptimizerState optimizer) {
  const bool carried = optimizer == OptimizerState::carried;
  require(fs::is_directory(from), "model.start_from: {}: no such folder", from.string());
  if (is_checkpoint(from)) return {from, carried ? from : fs::path()};
  if (fs::exists(from / "config.json")) {
    require(
        !carried,
        "model.start_from: {}: a model directory holds no optimiser state: name the run or a checkpoint, or "
        "set model.optimizer_state = false",
        from.string());
    return {from, {}};
  }
  if (!carried && fs::exists(from / "model/config.json")) return {from / "model", {}};
  const auto checkpoint = newest_checkpoint(from);
  require(!checkpoint.empty(), "model.start_from: {}: holds neither a config.json nor {}", from.string(),
          carried ? "a checkpoint" : "a run's model or checkpoint");
  return {checkpoint, carried ? checkpoint : fs::path()};
}

}  // namespace braid::train

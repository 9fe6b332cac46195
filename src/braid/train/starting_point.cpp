#include "braid/train/starting_point.h"

#include "braid/train/checkpoint.h"

namespace braid::train {

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
  require(fs::is_directory(from / "checkpoints"), "model.start_from: {}: holds neither a config.json nor {}",
          from.string(), carried ? "a checkpoint" : "a run's model or checkpoint");
  const auto found = find_checkpoint(from);
  // An older one would be another beginning than the recipe asks for.
  require(found.damaged.empty(),
          "model.start_from: {}: remove {}, or start from another checkpoint by its own path, such as {}",
          found.damaged.empty() ? "" : found.damaged.front().error,
          found.damaged.empty() ? "" : found.damaged.front().path.string(), found.path.string());
  return {found.path, carried ? found.path : fs::path()};
}

}  // namespace braid::train

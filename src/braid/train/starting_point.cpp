#include "braid/train/starting_point.h"

#include "braid/train/checkpoint.h"

namespace braid::train {
namespace {

bool is_checkpoint(const fs::path& folder) { return fs::exists(folder / "training_state.json"); }

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
  require(fs::is_directory(from / "checkpoints"), "model.start_from: {}: holds neither a config.json nor {}",
          from.string(), carried ? "a checkpoint" : "a run's model or checkpoint");
  const auto checkpoint = find_checkpoint(from).path;
  return {checkpoint, carried ? checkpoint : fs::path()};
}

}  // namespace braid::train

#include "braid/train/config.h"

#include <sstream>

#include "braid/model/config_file.h"

namespace braid::train {
namespace {

using io::TomlFields;

std::string text_of(const toml::table& table) {
  std::ostringstream out;
  out << table << "\n";
  return out.str();
}

}  // namespace

RunConfig read_run_config(const fs::path& path, const std::vector<std::string>& overrides) {
  toml::table table = io::read_toml(path);
  for (const auto& assignment : overrides) io::apply_override(table, assignment);
  const TomlFields f(table, path.string());
  RunConfig c;
  c.seed = static_cast<std::uint64_t>(f.integer_or("seed", 1, 0));
  c.folder = f.string("run.folder");
  if (c.folder.empty()) f.reject("run.folder", "is empty");
  c.data = read_data_config(f.table("data"), c.folder);
  const auto model_table = f.table("model");
  if (model_table.has("directory")) {
    c.initial_model = model_table.string("directory");
    c.model = model::read_config(c.initial_model);
    c.model.max_positions = std::max(c.model.max_positions, c.data.sequence_length);
  } else {
    c.model = read_model_table(model_table, c.data.sequence_length);
  }
  const auto train = f.table("train");
  read_steps(train, c);
  c.recompute = choose<Recompute>(
      train, "recompute", "none",
      {{"none", Recompute::none}, {"block", Recompute::block}, {"auto", Recompute::automatic}});
  c.precision =
      choose<Precision>(train, "precision", "auto",
                        {{"auto", Precision::automatic}, {"f32", Precision::f32}, {"bf16", Precision::bf16}});
  c.optimizer = read_optimizer_config(f.table_or_empty("optimizer"));
  c.schedule = read_schedule_config(f.table_or_empty("schedule"), c);
  c.validation_every = f.integer_or("validation.every", 0, 0, kMaxCount);
  c.validation_batches = f.integer_or("validation.batches", 0, 0, kMaxCount);
  c.checkpoint = read_checkpoint_config(f.table_or_empty("checkpoint"));
  c.tensorboard = f.boolean_or("run.tensorboard", false);
  f.finish();
  c.recipe = text_of(table);
  return c;
}

}  // namespace braid::train

#include "braid/train/config.h"

#include <sstream>

namespace braid::train {
namespace {

using io::TomlFields;

std::string text_of(const toml::table& table) {
  std::ostringstream out;
  out << table << "\n";
  return out.str();
}

void read_objective(const TomlFields& train, RunConfig& c) {
  c.objective =
      choose<ObjectiveKind>(train, "objective", "next_token",
                            {{"next_token", ObjectiveKind::next_token}, {"dpo", ObjectiveKind::dpo}});
  const bool dpo = c.objective == ObjectiveKind::dpo;
  if (dpo != !c.data.preferences.empty()) {
    train.reject("objective", dpo ? "is 'dpo', which needs data.preferences"
                                  : "must be \"dpo\" where data.preferences is given");
  }
  if (!dpo) return;
  c.dpo = {.beta = train.number_or("dpo_beta", 5, 1e-6, 1e6),
           .chosen_weight = train.number_or("dpo_chosen_weight", 0, 0, 1e6)};
  if (c.batch_size % 2 != 0) {
    train.reject("batch_size", fmt::format("{} is odd: a pair is two sequences", c.batch_size));
  }
  for (const auto& warmup : c.batch_warmup) {
    if (warmup.batch_size % 2 == 0) continue;
    train.reject("batch_warmup",
                 fmt::format("has a batch of {}, which is odd: a pair is two sequences", warmup.batch_size));
  }
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
  const auto model = read_model_table(f.table("model"), c.data.sequence_length);
  c.model = model.config;
  c.initial_model = model.start.weights;
  c.initial_optimizer = model.start.optimizer;
  const auto train = f.table("train");
  read_steps(train, c);
  c.recompute = choose<Recompute>(
      train, "recompute", "none",
      {{"none", Recompute::none}, {"block", Recompute::block}, {"auto", Recompute::automatic}});
  c.precision =
      choose<Precision>(train, "precision", "auto",
                        {{"auto", Precision::automatic}, {"f32", Precision::f32}, {"bf16", Precision::bf16}});
  read_objective(train, c);
  c.optimizer = read_optimizer_config(f.table_or_empty("optimizer"));
  if (c.objective == ObjectiveKind::dpo && c.optimizer.z_loss != 0) {
    f.reject("optimizer.z_loss",
             "must be set to 0 for train.objective = \"dpo\": its weights may be negative");
  }
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

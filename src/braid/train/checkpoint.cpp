#include "braid/train/checkpoint.h"

#include <algorithm>

#include "braid/io/checksums.h"
#include "braid/io/json.h"
#include "braid/model/weights.h"

namespace braid::train {
namespace {

constexpr const char* kState = "training_state.json";
constexpr const char* kOptimizer = "optimizer";

// One moment under its names in the checkpoint.
void add_moment(std::vector<io::NamedTensor>& all, const char* prefix, const model::Parameters& tree,
                const model::ModelConfig& config) {
  for (const auto& [spec, tensor] : model::list(tree, config)) all.push_back({prefix + spec.name, tensor});
}

constexpr const char* kFirst = "first_moment.";
constexpr const char* kSecond = "second_moment.";

std::string state_text(const TrainingState& s) {
  const nlohmann::ordered_json json{{"step", s.step},
                                    {"kind", s.kind == CheckpointKind::permanent ? "permanent" : "ephemeral"},
                                    {"validated", s.validated},
                                    {"metrics_bytes", s.metrics_bytes},
                                    {"arithmetic", s.arithmetic},
                                    {"micro_batch_size", s.micro_batch_size},
                                    {"validation_sequences", s.validation_sequences},
                                    {"trainer", s.trainer}};
  return json.dump(1) + "\n";
}

TrainingState read_state(const fs::path& folder) {
  const auto path = folder / kState;
  const auto json = io::read_json(path);
  const io::Fields f(json, path.string());
  const auto kind = f.string("kind");
  if (kind != "permanent" && kind != "ephemeral") f.reject("kind", "is neither permanent nor ephemeral");
  return {.step = f.integer("step", 0),
          .kind = kind == "permanent" ? CheckpointKind::permanent : CheckpointKind::ephemeral,
          .validated = f.boolean("validated"),
          .metrics_bytes = static_cast<std::uintmax_t>(f.integer("metrics_bytes", 0)),
          .arithmetic = f.string("arithmetic"),
          .micro_batch_size = f.integer("micro_batch_size", 1),
          .validation_sequences = f.integer("validation_sequences", 0),
          .trainer = f.object("trainer").value()};
}

}  // namespace

void write_checkpoint(const fs::path& folder, const CheckpointContent& c, std::size_t max_shard_bytes) {
  fs::create_directory(folder);
  auto checksums = model::save_model(folder, c.parameters, c.config, {.max_shard_bytes = max_shard_bytes});
  io::write_file(folder / c.tokenizer.file_name(), c.tokenizer.file_content());
  std::vector<io::NamedTensor> moments;
  add_moment(moments, kFirst, c.first_moment, c.config);
  add_moment(moments, kSecond, c.second_moment, c.config);
  checksums.merge(io::write_tensor_folder(folder, moments, max_shard_bytes, kOptimizer));
  io::write_file(folder / kState, state_text(c.state));
  io::write_checksums(folder, checksums);
}

bool is_checkpoint(const fs::path& folder) { return fs::exists(folder / kState); }

CheckpointFolder verified_checkpoint(const fs::path& folder) {
  io::verify_checksums(folder);
  return {.path = folder, .state = read_state(folder), .damaged = {}};
}

std::vector<ListedCheckpoint> list_checkpoints(const fs::path& checkpoints,
                                               std::vector<DamagedCheckpoint>& damaged) {
  std::vector<ListedCheckpoint> found;
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    if (!entry.is_directory() || entry.path().filename().string().starts_with('.')) continue;
    try {
      const auto state = read_state(entry.path());
      found.push_back({state.step, state.kind, entry.path()});
    } catch (const Error& error) {
      damaged.push_back({entry.path(), error.what()});
    }
  }
  std::ranges::sort(found, std::greater{}, [](const auto& c) { return std::pair(c.step, c.path); });
  return found;
}

CheckpointFolder find_checkpoint(const fs::path& path) {
  if (!fs::is_directory(path / "checkpoints")) {
    require(is_checkpoint(path), "{}: is neither a run folder nor a checkpoint", path.string());
    return verified_checkpoint(path);
  }
  std::vector<DamagedCheckpoint> damaged;
  for (const auto& listed : list_checkpoints(path / "checkpoints", damaged)) {
    try {
      auto found = verified_checkpoint(listed.path);
      found.damaged = std::move(damaged);
      return found;
    } catch (const Error& error) {
      damaged.push_back({listed.path, error.what()});
    }
  }
  fail("{}: holds no checkpoint that is whole{}", path.string(),
       damaged.empty() ? "" : " (" + damaged.front().error + ")");
}

void load_checkpoint(const CheckpointTarget& target, const CheckpointFolder& from,
                     const model::ModelConfig& config) {
  std::vector<io::NamedTensor> moments;
  if (target.first_moment != nullptr) add_moment(moments, kFirst, target.first_moment->tree(), config);
  if (target.second_moment != nullptr) add_moment(moments, kSecond, target.second_moment->tree(), config);
  const io::TensorFiles optimizer(from.path, kOptimizer);
  for (const auto& [name, t] : moments) {
    const auto& saved = optimizer.at(name);
    require(saved.dtype == t.dtype && saved.shape == t.shape, "{}: tensor '{}' is {}, expected {}",
            from.path.string(), name, describe(saved), describe(t));
  }
  auto& memory = target.parameters->memory();
  model::load_weights(target.parameters->tree(), config, io::TensorFiles(from.path), memory);
  for (const auto& [name, t] : moments) {
    const Tensor to{t};
    memory.write(to.mutable_data(), optimizer.at(name).data, t.bytes());
  }
}

}  // namespace braid::train

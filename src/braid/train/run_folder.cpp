#include "braid/train/run_folder.h"

#include "braid/io/checksums.h"
#include "braid/model/weights.h"

namespace braid::train {
namespace {

constexpr std::string_view kTemporary = ".unfinished-";

std::string or_absent(const std::string& value) { return value.empty() ? "absent" : value; }

}  // namespace

RunFolder::RunFolder(const RunConfig& config) : config_(config), folder_(config.folder) {
  fs::create_directories(checkpoints());
  lock_.emplace(folder_, "training");
  const auto metrics = folder_ / "metrics.jsonl";
  // A start that failed before its first result, on a mistyped path say, binds nobody to its recipe.
  begun_ = complete() || !fs::is_empty(checkpoints()) || (fs::exists(metrics) && fs::file_size(metrics) != 0);
  bind_recipe();
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (entry.path().filename().string().starts_with(kTemporary)) fs::remove_all(entry.path());
  }
  metrics_ = std::make_unique<io::AppendFile>(metrics);
  timing_ = std::make_unique<io::AppendFile>(folder_ / "timing.jsonl");
}

void RunFolder::bind_recipe() {
  const auto path = folder_ / "recipe.toml";
  if (begun_) {
    require(fs::exists(path), "{}: holds a run without its recipe.toml; choose another run.folder",
            folder_.string());
    const auto before = io::read_file(path);
    if (before == config_.recipe) return;
    for (const auto& c : recipe_changes(before, config_.recipe)) {
      require(may_change(c.key),
              "{}: holds a run of another recipe ({} is {} there, {} here); choose another run.folder or "
              "remove it",
              folder_.string(), c.key, or_absent(c.before), or_absent(c.now));
    }
  }
  io::write_file(path, config_.recipe);
}

void RunFolder::bind_data(const std::string& contents) const {
  const auto path = folder_ / "data.json";
  const bool preferences = config_.objective == ObjectiveKind::dpo;
  if (begun_ && fs::exists(path)) {
    require(io::read_file(path) == contents + "\n",
            "{}: the run began on other data{}: bring {} back, or choose another run.folder", path.string(),
            preferences ? ", or from another model" : "",
            preferences ? "the pairs and that model" : "the token files or documents");
  } else {
    io::write_file(path, contents + "\n");
  }
}

void RunFolder::finish(const Trainer& trainer, const text::Tokenizer& tokenizer) {
  metrics_->sync();
  timing_->sync();
  const auto unfinished = folder_ / (std::string(kTemporary) + "model");
  try {
    fs::remove_all(unfinished);
    const model::HostParameters host(trainer.parameters(), config_.model);
    const auto checksums = model::save_model(unfinished, host.tree(), config_.model,
                                             {.max_shard_bytes = config_.checkpoint.max_shard_bytes});
    io::write_file(unfinished / tokenizer.file_name(), tokenizer.file_content());
    io::write_checksums(unfinished, checksums);
    io::publish_folder(unfinished, final_model());
  } catch (const std::exception& error) {
    std::error_code ignored;
    fs::remove_all(unfinished, ignored);
    fail("the trained model could not be written: {}; make room and run the same command again",
         error.what());
  }
}

}  // namespace braid::train

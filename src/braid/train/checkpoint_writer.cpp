#include "braid/train/checkpoint_writer.h"

#include <algorithm>
#include <utility>

namespace braid::train {
namespace {

constexpr std::string_view kTemporary = ".unfinished-";

std::string name_of(std::int64_t step) { return fmt::format("step_{:08d}", step); }

// Whether braid gave it this name: what somebody renamed is theirs to remove.
bool is_numbered(const fs::path& folder) {
  const auto name = folder.filename().string();
  return name.size() > 5 && name.starts_with("step_") &&
         std::all_of(name.begin() + 5, name.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Renamed first, so that a half-removed folder never looks like a checkpoint.
void remove_checkpoint(const fs::path& path) {
  const auto doomed = path.parent_path() / (std::string(kTemporary) + "old-" + path.filename().string());
  std::error_code error;
  fs::rename(path, doomed, error);
  if (!error) fs::remove_all(doomed, error);
  require(!error, "{}: cannot be removed: {}", path.string(), error.message());
}

void copy(const model::ParameterSet& to, const model::ParameterSet& from) {
  from.memory().read(to.flat().mutable_data(), from.flat().data, from.flat().bytes());
}

}  // namespace

// One set: the next checkpoint waits until this one is written.
struct CheckpointWriter::Buffers {
  explicit Buffers(const model::ModelConfig& config)
      : parameters(config, {}), first(config, {}), second(config, {}) {}
  void take(const Trainer& trainer) {
    copy(parameters, trainer.parameters());
    copy(first, trainer.first_moment());
    copy(second, trainer.second_moment());
  }
  model::ParameterSet parameters, first, second;
};

CheckpointWriter::CheckpointWriter(fs::path folder, const RunConfig& config)
    : folder_(std::move(folder)), config_(config) {
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (entry.path().filename().string().starts_with(kTemporary)) fs::remove_all(entry.path());
  }
}

CheckpointWriter::~CheckpointWriter() = default;  // the future's own waits for its thread

std::size_t CheckpointWriter::buffer_bytes(const RunConfig& config, const Trainer& trainer) {
  return config.checkpoint.writing == CheckpointWriting::asynchronous ? 3 * trainer.parameters().bytes() : 0;
}

void CheckpointWriter::save(const Trainer& trainer, const text::Tokenizer& tokenizer,
                            const TrainingState& state, std::function<void()> before) {
  require(!writing_.valid(), "checkpoint: the one before is still being written");
  state_ = state;
  const auto& model = config_.model;
  if (config_.checkpoint.writing == CheckpointWriting::waited_for) {
    const model::HostParameters parameters(trainer.parameters(), model), first(trainer.first_moment(), model),
        second(trainer.second_moment(), model);
    std::packaged_task<void()> task([&] {
      write({parameters.tree(), first.tree(), second.tree(), model, tokenizer, state_}, before);
    });
    writing_ = task.get_future();
    task();
    return;
  }
  if (buffers_ == nullptr) buffers_ = std::make_unique<Buffers>(model);
  buffers_->take(trainer);
  writing_ = std::async(std::launch::async, [this, &tokenizer, sync = std::move(before)] {
    const auto& b = *buffers_;
    write({b.parameters.tree(), b.first.tree(), b.second.tree(), config_.model, tokenizer, state_}, sync);
  });
}

void CheckpointWriter::write(const CheckpointContent& content, const std::function<void()>& before) {
  const auto path = folder_ / name_of(content.state.step);
  const auto unfinished = folder_ / (std::string(kTemporary) + path.filename().string());
  try {
    fs::remove_all(unfinished);
    before();
    write_checkpoint(unfinished, content, config_.checkpoint.max_shard_bytes);
    if (fs::exists(path)) remove_checkpoint(path);  // a damaged one that was passed over
    io::publish_folder(unfinished, path);
    damaged_.erase(path);  // it is whole now
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(unfinished, ignored);  // and with it the room that it took
    throw;
  }
  remove_old();
}

// Permanent ones but the newest `keep`, ephemeral ones but the newest, damaged ones.
void CheckpointWriter::remove_old() const {
  const auto keep = config_.checkpoint.keep;
  std::vector<DamagedCheckpoint> unreadable;
  std::int64_t permanent = 0, ephemeral = 0;
  for (const auto& c : list_checkpoints(folder_, unreadable)) {
    if (!is_numbered(c.path) || damaged_.contains(c.path)) continue;
    const bool stays =
        c.kind == CheckpointKind::permanent ? keep == 0 || ++permanent <= keep : ++ephemeral == 1;
    if (!stays) remove_checkpoint(c.path);
  }
  for (const auto& path : damaged_) {
    if (is_numbered(path) && fs::exists(path)) remove_checkpoint(path);
  }
}

std::optional<CheckpointReport> CheckpointWriter::poll() {
  using namespace std::chrono_literals;
  if (!writing_.valid() || writing_.wait_for(0s) != std::future_status::ready) return std::nullopt;
  return wait();
}

std::optional<CheckpointReport> CheckpointWriter::wait() {
  if (!writing_.valid()) return std::nullopt;
  CheckpointReport report{.step = state_.step, .error = {}};
  try {
    writing_.get();
  } catch (const std::exception& error) {
    report.error = error.what();
  }
  return report;
}

}  // namespace braid::train

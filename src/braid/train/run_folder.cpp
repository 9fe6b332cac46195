#include "braid/train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "braid/io/json.h"
#include "braid/model/weights.h"

namespace braid::train {
namespace {

constexpr std::string_view kTemporary = ".unfinished-";

[[noreturn]] void fail_errno(const fs::path& path, std::string_view what) {
  fail("{}: cannot {}: {}", path.string(), what, std::strerror(errno));
}

// "SOURCE line: their text | ours" of the first difference between two recipes.
std::string first_difference(const std::string& a, const std::string& b) {
  const auto line = [](const std::string& s, std::size_t at) {
    const auto begin = at == 0 ? 0 : s.rfind('\n', at - 1) + 1;
    return s.substr(begin, s.find('\n', at) - begin);
  };
  const auto limit = std::min(a.size(), b.size());
  std::size_t i = 0;
  while (i < limit && a[i] == b[i]) ++i;
  return fmt::format("'{}' there, '{}' here", line(a, i), line(b, i));
}

// Both moments under their names in the checkpoint.
std::vector<io::NamedTensor> moments(const model::Parameters& first, const model::Parameters& second,
                                     const model::ModelConfig& config) {
  std::vector<io::NamedTensor> all;
  for (const auto& [prefix, tree] :
       {std::pair{"first_moment.", &first}, std::pair{"second_moment.", &second}}) {
    for (const auto& [spec, tensor] : model::list(*tree, config)) all.push_back({prefix + spec.name, tensor});
  }
  return all;
}

}  // namespace

// Appends whole lines; nothing is durable before sync().
struct RunFolder::LogFile {
  explicit LogFile(fs::path file) : path(std::move(file)) {
    fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) fail_errno(path, "open");
  }
  ~LogFile() { ::close(fd); }
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  void append(const std::string& line) {
    const std::string text = line + "\n";
    for (std::size_t done = 0; done < text.size();) {
      const auto n = ::write(fd, text.data() + done, text.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_errno(path, "write");
      done += static_cast<std::size_t>(n);
    }
  }
  void sync() {
    if (::fsync(fd) != 0) fail_errno(path, "fsync");
  }
  void truncate(std::uintmax_t bytes) {
    if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) fail_errno(path, "truncate");
    sync();
  }

  fs::path path;
  int fd = -1;
};

RunFolder::RunFolder(const RunConfig& config) : config_(config), folder_(config.folder) {
  fs::create_directories(folder_ / "checkpoints");
  const auto lock_path = folder_ / ".lock";
  lock_ = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) fail_errno(lock_path, "open");
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    fail("{}: another process is training in this folder", folder_.string());
  }
  const auto recipe = folder_ / "recipe.toml", metrics = folder_ / "metrics.jsonl";
  // A start that failed before its first result, on a mistyped path say, binds nobody to its recipe.
  begun_ = complete() || !checkpoint_steps().empty() || (fs::exists(metrics) && fs::file_size(metrics) != 0);
  if (begun_) {
    require(fs::exists(recipe), "{}: holds a run without its recipe.toml; choose another run.folder",
            folder_.string());
    const auto before = io::read_file(recipe);
    require(before == config.recipe,
            "{}: holds a run of another recipe ({}); choose another run.folder or remove it",
            folder_.string(), first_difference(before, config.recipe));
  } else {
    io::write_file(recipe, config.recipe);
  }
  for (const auto& parent : {folder_, folder_ / "checkpoints"}) {
    for (const auto& entry : fs::directory_iterator(parent)) {
      if (entry.path().filename().string().starts_with(kTemporary)) fs::remove_all(entry.path());
    }
  }
  metrics_ = std::make_unique<LogFile>(metrics);
  timing_ = std::make_unique<LogFile>(folder_ / "timing.jsonl");
}

void RunFolder::bind_data(const std::string& contents) const {
  const auto path = folder_ / "data.json";
  if (begun_ && fs::exists(path)) {
    require(io::read_file(path) == contents + "\n",
            "{}: the run began on other data: bring the token files or documents back, or choose another "
            "run.folder",
            path.string());
  } else {
    io::write_file(path, contents + "\n");
  }
}

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

fs::path RunFolder::checkpoint_path(std::int64_t step) const {
  return folder_ / "checkpoints" / fmt::format("step_{:08d}", step);
}

std::vector<std::int64_t> RunFolder::checkpoint_steps() const {
  std::vector<std::int64_t> steps;
  for (const auto& entry : fs::directory_iterator(folder_ / "checkpoints")) {
    const auto name = entry.path().filename().string();
    const bool numbered =
        name.size() > 5 && name.size() < 20 && name.starts_with("step_") &&
        std::all_of(name.begin() + 5, name.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (numbered) steps.push_back(std::stoll(name.substr(5)));
  }
  std::ranges::sort(steps, std::greater{});
  return steps;
}

std::optional<TrainingState> RunFolder::restore(Trainer& trainer, std::vector<std::string>& skipped) {
  for (const auto step : checkpoint_steps()) {
    const auto path = checkpoint_path(step);
    try {
      const auto json = io::read_json(path / "training_state.json");
      const io::Fields f(json, (path / "training_state.json").string());
      const TrainingState state{f.integer("step", step, step),
                                static_cast<std::uintmax_t>(f.integer("metrics_bytes", 0)),
                                f.string("arithmetic")};
      const auto trainer_state = parse_trainer_state(f.object("trainer"));
      require(fs::file_size(metrics_->path) >= state.metrics_bytes, "{}: is shorter than at the checkpoint",
              metrics_->path.string());
      const io::TensorFiles optimizer(path / "optimizer.safetensors");
      const auto targets =
          moments(trainer.first_moment().tree(), trainer.second_moment().tree(), config_.model);
      for (const auto& [name, t] : targets) {
        const auto& saved = optimizer.at(name);
        require(saved.dtype == t.dtype && saved.shape == t.shape, "{}: tensor '{}' is {}, expected {}",
                path.string(), name, describe(saved), describe(t));
      }
      model::load_weights(trainer.parameters().tree(), config_.model,
                          io::TensorFiles(path / "model.safetensors"), trainer.parameters().memory());
      for (const auto& [name, t] : targets) {
        trainer.parameters().memory().write(Tensor{t}.mutable_data(), optimizer.at(name).data, t.bytes());
      }
      trainer.parameters_changed();
      trainer.restore(trainer_state);
      metrics_->truncate(state.metrics_bytes);
      return state;
    } catch (const std::exception& error) {
      skipped.push_back(error.what());
    }
  }
  require(skipped.empty(), "{}: no checkpoint can be read ({}); repair or remove the run folder",
          folder_.string(), skipped.empty() ? "" : skipped.front());
  metrics_->truncate(0);
  return std::nullopt;
}

void RunFolder::write_model(const fs::path& folder, const Trainer& trainer,
                            const text::Tokenizer& tokenizer) const {
  fs::remove_all(folder);
  const model::HostParameters host(trainer.parameters(), config_.model);
  model::save_model(folder, host.tree(), config_.model, {.max_shard_bytes = 0});
  io::write_file(folder / tokenizer.file_name(), tokenizer.file_content());
}

void RunFolder::save(const Trainer& trainer, const text::Tokenizer& tokenizer, std::int64_t step) {
  const auto path = checkpoint_path(step);
  if (fs::exists(path)) fs::remove_all(path);  // a damaged one that restore() passed over
  metrics_->sync();
  const auto unfinished = folder_ / "checkpoints" / (std::string(kTemporary) + path.filename().string());
  write_model(unfinished, trainer, tokenizer);
  const model::HostParameters first(trainer.first_moment(), config_.model),
      second(trainer.second_moment(), config_.model);
  io::write_safetensors(unfinished / "optimizer.safetensors",
                        moments(first.tree(), second.tree(), config_.model));
  const nlohmann::ordered_json state{{"step", step},
                                     {"metrics_bytes", fs::file_size(metrics_->path)},
                                     {"arithmetic", trainer.backend().description},
                                     {"trainer", to_json(trainer.state())}};
  io::write_file(unfinished / "training_state.json", state.dump(2) + "\n");
  io::publish_folder(unfinished, path);
  const auto steps = checkpoint_steps();
  for (std::size_t i = static_cast<std::size_t>(config_.checkpoints_kept); i < steps.size(); ++i) {
    // Renamed first, so that a half-removed folder never looks like a checkpoint.
    const auto old = checkpoint_path(steps[i]);
    const auto doomed = old.parent_path() / (std::string(kTemporary) + old.filename().string());
    fs::rename(old, doomed);
    fs::remove_all(doomed);
  }
}

void RunFolder::finish(const Trainer& trainer, const text::Tokenizer& tokenizer) {
  const auto unfinished = folder_ / (std::string(kTemporary) + "model");
  write_model(unfinished, trainer, tokenizer);
  io::publish_folder(unfinished, final_model());
}

void RunFolder::append_metrics(const std::string& line) { metrics_->append(line); }
void RunFolder::append_timing(const std::string& line) { timing_->append(line); }

}  // namespace braid::train

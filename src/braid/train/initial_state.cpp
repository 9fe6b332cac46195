#include "braid/train/initial_state.h"

#include <algorithm>

#include "braid/io/json.h"
#include "braid/model/weights.h"

namespace braid::train {
namespace {

// Both moments of a checkpoint, which must fit this model.
void load_moments(const Trainer& trainer, const RunConfig& config, const fs::path& checkpoint) {
  const io::TensorFiles files(checkpoint / "optimizer.safetensors");
  for (const auto& [prefix, set] : {std::pair{"first_moment.", &trainer.first_moment()},
                                    std::pair{"second_moment.", &trainer.second_moment()}}) {
    for (const auto& [spec, t] : model::list(set->tree(), config.model)) {
      const auto& saved = files.at(prefix + spec.name);
      require(saved.dtype == t.dtype && saved.shape == t.shape, "{}: tensor '{}{}' is {}, expected {}",
              files.path().string(), prefix, spec.name, describe(saved), describe(t));
      set->memory().write(t.mutable_data(), saved.data, t.bytes());
    }
  }
}

}  // namespace

void complete_model(RunConfig& c, const text::Tokenizer& tokenizer) {
  auto& m = c.model;
  const auto size = tokenizer.vocabulary_size();
  if (m.vocabulary_size == 0) m.vocabulary_size = (size + 63) / 64 * 64;
  require(m.vocabulary_size >= size, "model.vocabulary_size {} is smaller than the tokenizer's {}",
          m.vocabulary_size, size);
  const auto end = tokenizer.end_of_text();
  if (end && std::ranges::find(m.eos_ids, *end) == m.eos_ids.end()) {
    require(
        c.initial_model.empty() || m.eos_ids.empty(),
        "data.tokenizer: its end of text {} is not the eos_token_id of {}: give the model's own tokenizer",
        *end, c.initial_model.string());
    // A preset's special ids belong to another tokenizer.
    m.eos_ids = {*end};
    m.bos_id = m.pad_id = std::nullopt;
  }
  m.validate("model");
}

void set_initial_weights(Trainer& trainer, const RunConfig& config) {
  const auto& p = trainer.parameters();
  if (config.initial_model.empty()) {
    model::initialize(p.tree(), config.model, config.seed, p.memory());
  } else {
    model::load_weights(p.tree(), config.model, io::TensorFiles(config.initial_model), p.memory());
  }
  if (!config.initial_optimizer.empty()) load_moments(trainer, config, config.initial_optimizer);
  trainer.parameters_changed();
}

std::int64_t initial_updates(const RunConfig& config) {
  if (config.initial_optimizer.empty()) return 0;
  const auto path = config.initial_optimizer / "training_state.json";
  const auto json = io::read_json(path);
  return io::Fields(json, path.string()).integer("step", 0);
}

}  // namespace braid::train

#include "braid/train/initial_state.h"

#include <algorithm>

#include "braid/io/checksums.h"
#include "braid/model/weights.h"
#include "braid/train/checkpoint.h"

namespace braid::train {

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
  if (!config.initial_optimizer.empty()) {
    const auto checkpoint = verified_checkpoint(config.initial_optimizer);
    load_checkpoint({&p, &trainer.first_moment(), &trainer.second_moment()}, checkpoint, config.model);
    const io::Fields state(checkpoint.state.trainer, (checkpoint.path / "training_state.json").string(),
                           "trainer");
    trainer.restore({.updates = parse_trainer_state(state).updates});
  } else if (config.initial_model.empty()) {
    model::initialize(p.tree(), config.model, config.seed, p.memory());
  } else {
    if (is_checkpoint(config.initial_model)) {
      verified_checkpoint(config.initial_model);
    } else {
      io::verify_tensor_files(config.initial_model);
    }
    model::load_weights(p.tree(), config.model, io::TensorFiles(config.initial_model), p.memory());
  }
  trainer.parameters_changed();
}

}  // namespace braid::train

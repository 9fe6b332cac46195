#include "braid/lab/experiment/growing_trainer.h"

#include <array>

namespace braid::lab {
GrowingTrainer::GrowingTrainer(const Backend& backend, train::RunConfig config)
    : backend_(backend), config_(std::make_unique<train::RunConfig>(std::move(config))) {
  config_->data.sequence_length = 8;
  trainer_ = std::make_unique<train::Trainer>(backend_, *config_);
  auto& parameters = trainer_->parameters();
  model::initialize(parameters.tree(), config_->model, config_->seed, parameters.memory());
  trainer_->parameters_changed();
}

train::Trainer& GrowingTrainer::fit(std::int64_t sequence_length) {
  if (sequence_length <= config_->data.sequence_length) return *trainer_;
  const auto sets = [](const train::Trainer& t) {
    return std::array{&t.parameters(), &t.first_moment(), &t.second_moment()};
  };
  std::array<std::vector<float>, 3> values;
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = to_host<float>(*backend_.memory, sets(*trainer_)[i]->flat());
  }
  const auto state = trainer_->state();
  const auto tally = trainer_->tally();
  trainer_.reset();
  config_->data.sequence_length = sequence_length;
  trainer_ = std::make_unique<train::Trainer>(backend_, *config_);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Tensor to = sets(*trainer_)[i]->flat();
    backend_.memory->write(to.mutable_data(), values[i].data(), to.bytes());
  }
  trainer_->restore(state);
  trainer_->set_tally(tally);
  trainer_->parameters_changed();
  return *trainer_;
}

}  // namespace braid::lab

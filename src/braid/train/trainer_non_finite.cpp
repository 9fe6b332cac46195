// The end of a run that met NaN or infinity: what the error says.
#include "braid/model/non_finite.h"
#include "braid/ops/optimizer.h"
#include "braid/train/trainer.h"

namespace braid::train {

// Parameters and moments are still those before the step, and the gradients those of the step.
std::string Trainer::cause_of_non_finite(const data::Batch& batch, double loss) {
  auto& memory = *backend_.memory;
  if (const auto found = model::non_finite_parameter(memory, parameter_list_)) return *found + " already";
  const auto inputs = take(batch, {});
  for (std::size_t part = 0; part < inputs.shapes().size(); ++part) {
    const auto length = batch.sequence_length;
    std::optional<std::string> found;
    work_.run(backend_, [&](Context& ctx, Arena& step) {
      found = model::non_finite_output(ctx, step, losses_of(inputs, part), config_.model, weights(), policy_,
                                       inputs.part(part),
                                       {.keep = keep_, .place = {inputs.first_token(part) / length, length}});
    });
    if (found) return *found;
  }
  if (!std::isfinite(loss)) {
    return "the same forward pass run again is finite throughout: look for faulty memory or hardware";
  }
  if (const auto found = model::non_finite_gradient(memory, gradient_list_)) {
    return *found + "; every output of forward is finite";
  }
  return "every output and every gradient is finite, but the gradients' norm is too large for f32";
}

// The gradients may be of a later step by now.
void Trainer::fail_step(const data::Batch& batch, std::int64_t step) {
  const auto failed = tally();
  const auto predicted = static_cast<double>(std::max<std::int64_t>(batch.predicted, 1));
  sum_gradients(take(batch, {1 / predicted, 0, 1, 1}));
  set_tally({});
  throw NotFinite(
      fmt::format("step {}: {}; loss {}, gradient norm {}: lower schedule.learning_rate or look at the data",
                  step, cause_of_non_finite(batch, failed.loss), failed.loss, failed.gradient_norm));
}

void Trainer::require_finite(std::int64_t step) {
  auto& memory = *backend_.memory;
  const auto check = [&](const model::ParameterSet& set, const std::vector<model::NamedParameter>& list,
                         std::string_view what) {
    work_.run(backend_, [&](Context& ctx, Arena&) { ops::gradient_norm(ctx, norm_, set.flat(), 0); });
    if (std::isfinite(to_host<float>(memory, norm_)[0])) return;
    const auto found = model::non_finite_parameter(memory, list);
    require(!found, "after step {}: {}{}: lower schedule.learning_rate; nothing was saved", step, what,
            found.value_or(""));
  };
  check(parameters_, parameter_list_, "");
  check(first_, first_list_, "the first moment of ");
  check(second_, second_list_, "the second moment of ");
}

}  // namespace braid::train

#include "braid/train/trainer_state.h"

#include <algorithm>

namespace braid::train {
namespace {

using nlohmann::json;

json series_json(const SpikeState& s) {
  return {{"seen", s.seen}, {"recent", s.recent}, {"spikes", s.spikes}};
}

SpikeState parse_series(const io::Fields& f) {
  f.allow_only({"seen", "recent", "spikes"});
  const auto seen = f.integer("seen", 0);
  SpikeState s{.seen = seen, .recent = f.numbers("recent"), .spikes = f.integers("spikes", 1, seen)};
  if (std::ssize(s.recent) > seen) f.reject("recent", "has more values than 'seen'");
  if (std::ranges::adjacent_find(s.spikes, std::greater_equal{}) != s.spikes.end()) {
    f.reject("spikes", "must rise");
  }
  return s;
}

}  // namespace

json to_json(const TrainerState& s) {
  return {
      {"updates", s.updates},
      {"losses", s.losses},
      {"gradient_norms", s.gradient_norms},
      {"stability",
       {{"loss", series_json(s.stability.loss)}, {"gradient_norm", series_json(s.stability.gradient_norm)}}}};
}

TrainerState parse_trainer_state(const io::Fields& f) {
  f.allow_only({"updates", "losses", "gradient_norms", "stability"});
  const auto stability = f.object("stability");
  stability.allow_only({"loss", "gradient_norm"});
  TrainerState s{
      .updates = f.integer("updates", 0),
      .losses = f.numbers("losses"),
      .gradient_norms = f.numbers("gradient_norms"),
      .stability = {parse_series(stability.object("loss")), parse_series(stability.object("gradient_norm"))}};
  if (s.losses.size() != s.gradient_norms.size()) f.reject("gradient_norms", "is not as long as 'losses'");
  return s;
}

}  // namespace braid::train

// Spike scores against counts made by hand, and the trainer's state in JSON.
#include "braid/train/stability.h"

#include <gtest/gtest.h>

#include <cmath>

#include "braid/train/trainer_state.h"
#include "tests/support/files.h"

namespace braid::test {
namespace {

using train::StabilityMonitor;

// Alternating ±1 has mean 0 and population deviation 1 in every even window.
double alternating(int i) { return i % 2 == 0 ? 1 : -1; }

TEST(SpikeScore, CountsBothSidesInPercent) {
  std::vector<double> values;
  for (int i = 0; i < 128; ++i) values.push_back(alternating(i));
  EXPECT_EQ(train::spike_score(values), 0);
  auto one = values;
  one.push_back(6);  // at least six deviations
  EXPECT_EQ(train::spike_score(one), 100);
  one.back() = -6;
  EXPECT_EQ(train::spike_score(one), 100);
  one.back() = 5.999;
  EXPECT_EQ(train::spike_score(one), 0);
  for (int i = 0; i < 3; ++i) one.push_back(i == 2 ? -1000.0 : 0);
  EXPECT_EQ(train::spike_score(one), 25);
}

TEST(SpikeScore, AWindowWithoutSpreadJudgesNothing) {
  std::vector<double> values(300, 0.7);
  values[200] = 5;
  EXPECT_EQ(train::spike_score(values), 0);
}

TEST(StabilityMonitor, OneSidedAndStrict) {
  const auto spikes_with = [](double loss, double norm) {
    StabilityMonitor m;
    for (int i = 0; i < 128; ++i) m.add(alternating(i), 10 * alternating(i));
    EXPECT_EQ(m.loss_spikes(), 0);
    m.add(loss, norm);
    return std::pair{m.loss_spikes(), m.gradient_norm_spikes()};
  };
  EXPECT_EQ(spikes_with(6, 60), (std::pair{0.0, 0.0}));
  EXPECT_EQ(spikes_with(6.001, 60), (std::pair{1.0, 0.0}));
  EXPECT_EQ(spikes_with(-600, 60.01), (std::pair{0.0, 1.0}));
}

TEST(StabilityMonitor, NothingIsJudgedBeforeAWholeWindow) {
  StabilityMonitor m;
  for (int i = 0; i < 127; ++i) m.add(alternating(i), 1);
  m.add(1e6, 1);
  EXPECT_EQ(m.loss_spikes(), 0);
  EXPECT_TRUE(m.state().loss.spikes.empty());
}

TEST(StabilityMonitor, TheFractionIsOfTheRollingSteps) {
  StabilityMonitor m({.window = 4, .rolling = 10});
  const auto add = [&](double x) { m.add(x, 0); };
  for (int i = 0; i < 4; ++i) add(alternating(i));
  add(100);  // the fifth value, the first one judged
  EXPECT_EQ(m.loss_spikes(), 1);
  for (int i = 0; i < 4; ++i) add(alternating(i));
  EXPECT_EQ(m.loss_spikes(), 1.0 / 5);
  for (int i = 0; i < 5; ++i) add(alternating(i));
  EXPECT_EQ(m.loss_spikes(), 1.0 / 10);  // values 5 to 14
  add(-1);
  EXPECT_EQ(m.loss_spikes(), 0);  // 6 to 15
}

train::TrainerState awkward() {
  train::TrainerState s{.updates = 1'414'078,
                        .losses = {0.1, 1.0 / 3, 2, 1e-310, 12345678.9},
                        .gradient_norms = {std::nextafter(1.0, 2.0), 5e-324, 3.25, 1e300, 7},
                        .stability = {}};
  s.stability.loss = {.seen = 20'000, .recent = {std::sqrt(2), 3}, .spikes = {15'000, 19'999}};
  s.stability.gradient_norm = {.seen = 1, .recent = {0.30000000000000004}, .spikes = {}};
  return s;
}

TEST(TrainerState, EveryBitComesBack) {
  const auto text = train::to_json(awkward()).dump();
  const auto json = io::parse_json(text, "state");
  EXPECT_EQ(train::parse_trainer_state(io::Fields(json, "state")), awkward());
  const auto empty = train::to_json({});
  EXPECT_EQ(train::parse_trainer_state(io::Fields(empty, "state")), train::TrainerState{});
}

TEST(TrainerState, MistakesAreNamed) {
  const auto message = [](auto&& change) {
    auto json = train::to_json(awkward());
    change(json);
    return message_of([&] { train::parse_trainer_state(io::Fields(json, "state.json")); });
  };
  EXPECT_HOLDS(message([](auto& j) { j.erase("updates"); }), "updates");
  EXPECT_HOLDS(message([](auto& j) { j["updates"] = -1; }), "updates");
  EXPECT_HOLDS(message([](auto& j) { j["losses"].erase(0); }), "gradient_norms");
  EXPECT_HOLDS(message([](auto& j) { j["losses"][1] = "x"; }), "losses[1]");
  EXPECT_HOLDS(message([](auto& j) { j["stability"]["loss"]["spikes"] = {30'000}; }), "spikes[0]");
  EXPECT_HOLDS(message([](auto& j) { j["stability"]["loss"]["spikes"] = {3, 3}; }), "stability.loss.spikes");
  EXPECT_HOLDS(message([](auto& j) { j["extra"] = 1; }), "extra");
}

}  // namespace
}  // namespace braid::test

#include "braid/train/memory_plan.h"

namespace braid::train {
namespace {

using nn::Keep;

constexpr auto kLevels = static_cast<std::int64_t>(Keep::all);

// The plan of `config` that needs least.
model::KeepPlan smallest_plan(const RunConfig& config) {
  return model::KeepPlan::all_blocks(config.recompute == Recompute::none ? Keep::all : Keep::input);
}

std::string mebibytes(std::size_t bytes) { return fmt::format("{} MiB", (bytes >> 20) + 1); }

// The end of a sentence that says why nothing fits.
std::string what_would_fit(const RunConfig& c, std::size_t available, const WorkBytes& bytes) {
  const auto inputs = model::KeepPlan::all_blocks(Keep::input);
  const auto length = c.data.sequence_length;
  const auto* recompute = c.recompute == Recompute::none ? " and train.recompute = \"auto\"" : "";
  if (c.recompute == Recompute::none && bytes({c.micro_batch_size, length}, inputs) <= available) {
    return "train.recompute = \"auto\" fits";
  }
  for (auto micro = c.micro_batch_size - 1; micro > 0; --micro) {
    if (c.batch_size % micro == 0 && bytes({micro, length}, inputs) <= available) {
      return fmt::format("train.micro_batch_size = {}{} fits", micro, recompute);
    }
  }
  for (auto shorter = length / 2; shorter >= 2; shorter /= 2) {
    if (bytes({1, shorter}, inputs) <= available) {
      return fmt::format("train.micro_batch_size = 1 and data.sequence_length = {}{} fit", shorter,
                         recompute);
    }
  }
  return fmt::format("even one sequence of 2 tokens needs {}", mebibytes(bytes({1, 2}, inputs)));
}

}  // namespace

model::KeepPlan keep_plan(std::int64_t step, std::int64_t blocks) {
  const auto level = kLevels - step / blocks;
  const auto kept = [](std::int64_t l) { return static_cast<Keep>(std::max<std::int64_t>(l, 0)); };
  return {.first = kept(level - 1), .rest = kept(level), .first_blocks = step % blocks};
}

model::KeepPlan choose_keep_plan(const RunConfig& c, std::size_t available, const WorkBytes& bytes) {
  const WorkShape shape{c.micro_batch_size, c.data.sequence_length};
  const auto blocks = static_cast<std::int64_t>(c.model.layers.size());
  const auto smallest = smallest_plan(c);
  if (c.recompute == Recompute::automatic) {
    for (std::int64_t step = 0; step < kLevels * blocks; ++step) {
      const auto plan = keep_plan(step, blocks);
      if (bytes(shape, plan) <= available) return plan;
    }
  }
  const auto needed = bytes(shape, smallest);
  if (needed <= available) return smallest;
  fail("training: {} sequences of {} tokens need {} beside the parameters{}, {} are free: {}",
       shape.micro_batch, shape.length, mebibytes(needed),
       c.recompute == Recompute::none ? "" : " with every block recomputed", mebibytes(available),
       what_would_fit(c, available, bytes));
}

std::int64_t largest_micro_batch(const RunConfig& c, std::size_t available, const WorkBytes& bytes,
                                 std::int64_t limit) {
  const auto fits = [&](std::int64_t micro) {
    return bytes({micro, c.data.sequence_length}, smallest_plan(c)) <= available;
  };
  std::int64_t good = 0, bad = limit + 1;
  for (std::int64_t micro = 1; micro < bad && good == micro / 2; micro *= 2) {
    if (fits(micro))
      good = micro;
    else
      bad = micro;
  }
  while (bad - good > 1) {
    const auto middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

}  // namespace braid::train

// Plans for little memory: exact, of least recomputation, the same bits; errors that say what would fit.
#include "braid/train/memory_plan.h"

#include <array>

#include "braid/backends/backends.h"
#include "braid/train/trainer.h"
#include "tests/support/comparator.h"
#include "tests/support/files.h"
#include "tests/support/small_models.h"

namespace braid::test {
namespace {

using nn::Keep;

// The host's memory, as if there were only so much of it.
class LimitedMemory final : public Memory {
 public:
  explicit LimitedMemory(std::size_t bytes) : left_(bytes) {}
  Device device() const override { return Device::cpu; }
  std::size_t available() const override { return left_; }
  std::byte* allocate(std::size_t bytes) override {
    require(bytes <= left_, "limited memory: {} bytes of {}", bytes, left_);
    left_ -= bytes;
    return host_memory()->allocate(bytes);
  }
  void release(std::byte* data, std::size_t bytes) noexcept override {
    left_ += bytes;
    host_memory()->release(data, bytes);
  }
  void write(void* to, const void* host, std::size_t bytes) override {
    host_memory()->write(to, host, bytes);
  }
  void read(void* host, const void* from, std::size_t bytes) override {
    host_memory()->read(host, from, bytes);
  }
  void zero(void* data, std::size_t bytes) override { host_memory()->zero(data, bytes); }

 private:
  std::size_t left_;
};

Backend limited(std::size_t bytes) {
  Backend backend = make_backend("cpu", {.threads = 1, .target = {}});
  backend.memory = std::make_shared<LimitedMemory>(bytes);
  return backend;
}

train::RunConfig small_run(train::Recompute recompute) {
  train::RunConfig config;
  config.model = small_models()[0].config;
  config.data.sequence_length = 64;
  config.batch_size = config.micro_batch_size = 4;
  config.steps = 2;
  config.recompute = recompute;
  return config;
}

struct Trained {
  train::MemoryPlan plan;
  std::vector<double> losses;
};

Trained train_two(const Backend& backend, const train::RunConfig& config) {
  train::Trainer trainer(backend, config);
  model::initialize(trainer.parameters().tree(), config.model, 5);
  const auto layout = model::RowLayout::of(4, 64);
  const data::Batch batch{.instances = 4,
                          .sequence_length = 64,
                          .ids = small_ids(256, config.model.vocabulary_size, 1),
                          .targets = small_ids(256, config.model.vocabulary_size, 2),
                          .positions = layout.positions,
                          .segment_offsets = layout.offsets,
                          .predicted = 4 * 63};
  Trained out{trainer.memory_plan(), {}};
  for (const std::int64_t step : {1, 2}) out.losses.push_back(trainer.step(batch, step).loss);
  out.losses.push_back(trainer.score(batch).loss);
  EXPECT_EQ(trainer.work().step_peak(), out.plan.activations);
  EXPECT_EQ(trainer.work().scratch_peak(), out.plan.scratch);
  return out;
}

TEST(MemoryPlan, StepsGiveUpOneLevelBlockByBlock) {
  constexpr std::int64_t kBlocks = 5;
  std::int64_t before = 3 * kBlocks + 1;
  for (std::int64_t step = 0; step <= 3 * kBlocks; ++step) {
    const auto plan = train::keep_plan(step, kBlocks);
    std::int64_t levels = 0;
    for (std::size_t block = 0; block < kBlocks; ++block) levels += static_cast<std::int64_t>(plan.of(block));
    EXPECT_EQ(levels, before - 1) << step;
    before = levels;
  }
  EXPECT_EQ(before, 0);
}

TEST(MemoryPlan, LessMemoryMoreRecomputationSameBits) {
  const auto config = small_run(train::Recompute::automatic);
  const auto all = train_two(make_backend("cpu", {.threads = 1, .target = {}}), config);
  const auto blocks = static_cast<std::int64_t>(config.model.layers.size());
  EXPECT_EQ(all.plan.blocks[3], blocks);
  const auto least = train_two(limited(std::size_t{1} << 30), small_run(train::Recompute::block)).plan;
  EXPECT_EQ(least.blocks[0], blocks);
  ASSERT_LT(least.total(), all.plan.total());
  std::int64_t levels = 3 * blocks;
  for (auto bytes = all.plan.total(); bytes >= least.total(); bytes -= 40'000) {
    const auto tight = train_two(limited(bytes), config);
    EXPECT_LE(tight.plan.total(), bytes);
    EXPECT_EQ(tight.plan.free, bytes);
    EXPECT_EQ(tight.losses, all.losses);
    std::int64_t now = 0;
    for (std::size_t keep = 0; keep < 4; ++keep)
      now += static_cast<std::int64_t>(keep) * tight.plan.blocks[keep];
    EXPECT_LE(now, levels);
    levels = now;
  }
  EXPECT_LT(levels, 2 * blocks);
}

TEST(MemoryPlan, ErrorsSayWhatWouldFit) {
  const auto none = small_run(train::Recompute::none);
  const auto all = train_two(make_backend("cpu", {.threads = 1, .target = {}}), none).plan;
  const auto least = train_two(limited(std::size_t{1} << 30), small_run(train::Recompute::block)).plan;
  const auto message = [](std::size_t bytes, const train::RunConfig& config) {
    const Backend backend = limited(bytes);
    return message_of([&] { train::Trainer trainer(backend, config); });
  };
  EXPECT_HOLDS(message(all.total() - 1, none), "train.recompute = \"auto\" fits");
  const auto automatic = small_run(train::Recompute::automatic);
  EXPECT_HOLDS(message(least.total() - 1, automatic), "train.micro_batch_size = 2 fits");
  // With more and more memory: nothing, a shorter sequence, a smaller micro-batch.
  const auto fixed = least.total() - least.activations - least.scratch;
  EXPECT_HOLDS(message(fixed / 2, automatic), "only a smaller model fits");
  const std::array<std::string, 3> hints{"even one sequence of 2 tokens needs",
                                         "data.sequence_length = ", "train.micro_batch_size = "};
  std::array<int, 3> seen{};
  std::size_t at = 0;
  for (auto bytes = fixed; bytes < least.total(); bytes += 30'000) {
    const auto text = message(bytes, automatic);
    while (at + 1 < hints.size() && !holds(text, hints[at])) ++at;
    EXPECT_HOLDS(text, hints[at]);
    ++seen[at];
  }
  for (const int count : seen) EXPECT_GT(count, 0);
}

TEST(MemoryPlan, LargestMicroBatch) {
  const auto config = small_run(train::Recompute::none);
  const train::WorkBytes bytes = [](const train::WorkShape& w, const model::KeepPlan&) {
    return static_cast<std::size_t>(100 * w.micro_batch * w.length);
  };
  for (const std::int64_t most : {0, 1, 2, 3, 7, 8, 37, 64}) {
    const auto available = static_cast<std::size_t>(6400 * most + 50);
    EXPECT_EQ(train::largest_micro_batch(config, available, bytes, 64), most);
  }
  EXPECT_EQ(train::largest_micro_batch(config, 1 << 20, bytes, 64), 64);
}

}  // namespace
}  // namespace braid::test

#include "braid/data/loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "tests/data/fixture.h"

namespace braid::data {
namespace {

using namespace std::chrono_literals;
using Ids = std::vector<std::int32_t>;

// Batch number n as one id; earlier ones take longer, so that threads finish out of order.
Batch numbered(std::int64_t number) {
  std::this_thread::sleep_for(number % 3 == 0 ? 3ms : 0ms);
  Batch batch;
  batch.ids = {static_cast<std::int32_t>(number)};
  return batch;
}

TEST(Loader, InOrderWhateverTheTiming) {
  for (const int threads : {0, 1, 2, 4}) {
    Loader loader(numbered, 5, 24, {.threads = threads});
    for (std::int32_t n = 5; n <= 24; ++n) {
      EXPECT_EQ(loader.next_number(), n);
      EXPECT_EQ(loader.next().ids, Ids{n}) << threads << " threads";
    }
    expect_error([&] { loader.next(); }, {"batch 25", "24"});
  }
}

TEST(Loader, WorksAheadWithinItsBound) {
  std::atomic<int> made = 0;
  Loader loader(
      [&](std::int64_t) {
        ++made;
        return Batch{};
      },
      1, 100, {.threads = 2, .ahead = 3});
  for (int i = 0; i < 400 && made < 3; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(made, 3);
  std::this_thread::sleep_for(5ms);
  EXPECT_EQ(made, 3);  // and waits to be asked
  loader.next();
  for (int i = 0; i < 400 && made < 4; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(made, 4);
}

TEST(Loader, ErrorsComeInTheirTurn) {
  for (const int threads : {0, 1, 3}) {
    Loader loader(
        [](std::int64_t number) {
          require(number != 3, "batch {} is broken", number);
          return numbered(number);
        },
        1, 9, {.threads = threads});
    loader.next(), loader.next();
    expect_error([&] { loader.next(); }, {"batch 3 is broken"});
    EXPECT_EQ(loader.next().ids, Ids{4});
  }
}

TEST(Loader, MayGoWithBatchesLeft) {  // without a hang, and after the threads that use the function
  for (int i = 0; i < 20; ++i) {
    Loader loader(numbered, 0, 1000, {.threads = 3});
    if (i % 2 == 0) loader.next();
  }
}

TEST(Loader, CountsTheWait) {
  const auto slow = [](std::int64_t) {
    std::this_thread::sleep_for(10ms);
    return Batch{};
  };
  Loader inline_loader(slow, 0, 2, {.threads = 0});
  inline_loader.next();
  EXPECT_GE(inline_loader.seconds_waited(), 0.01);
  Loader ahead(slow, 0, 0, {.threads = 1});
  std::this_thread::sleep_for(50ms);
  ahead.next();
  EXPECT_LT(ahead.seconds_waited(), 0.01);
}

class EpochTest : public FolderTest {};

// The tokens of two epochs, put one batch after another.
Ids stream(const Dataset& dataset, std::uint64_t seed, std::int64_t batch_size, int threads) {
  const Order order(seed, dataset.size());
  const std::int64_t batches = 2 * dataset.size() / batch_size;
  Loader loader(
      [&](std::int64_t number) { return assemble(dataset, order, number * batch_size, batch_size, {}); }, 0,
      batches - 1, {.threads = threads});
  Ids ids;
  for (std::int64_t n = 0; n < batches; ++n) {
    const Batch batch = loader.next();
    ids.insert(ids.end(), batch.ids.begin(), batch.ids.end());
  }
  return ids;
}

TEST_F(EpochTest, OneStreamForAllLoadersAndBatchSplits) {
  constexpr std::int64_t kInstances = 60;
  std::vector<std::uint16_t> ids;
  for (std::uint16_t i = 0; i < kInstances; ++i)
    ids.insert(ids.end(), {i, static_cast<std::uint16_t>(i + 100)});
  std::vector<TokenFile> files;
  files.emplace_back(write_ids("a.u16", ids), TokenFileOptions{.vocabulary_size = 200});
  const FixedLengthDataset dataset(std::move(files), 2);
  const Ids want = stream(dataset, 7, 1, 0);
  for (const int loaders : {1, 2, 4}) {
    for (const std::int64_t batch : {1, 2, 3, 8, 15, 60})
      EXPECT_EQ(stream(dataset, 7, batch, loaders), want) << loaders << " loaders, batch " << batch;
  }
  for (const std::size_t epoch : {0, 1}) {
    std::vector<int> seen(kInstances);
    for (std::size_t i = 0; i < kInstances; ++i)
      ++seen[static_cast<std::size_t>(want[2 * (epoch * kInstances + i)])];
    EXPECT_TRUE(std::ranges::all_of(seen, [](int times) { return times == 1; }));
  }
  EXPECT_NE(stream(dataset, 8, 1, 0), want);
}

TEST(OrderedWork, ThreadsThatCannotStartAreAnErrorAndNoneIsLeft) {
  for (const int possible : {0, 1, 3}) {
    int started = 0;
    const auto start = [&](std::function<void()> work) {
      if (started == possible) {
        throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
      }
      ++started;
      return std::thread(std::move(work));
    };
    expect_error([&] { OrderedWork<int>(4, start); },
                 {fmt::format("only {} of 4 threads", possible), "fewer workers or loaders"});
  }
}

}  // namespace
}  // namespace braid::data

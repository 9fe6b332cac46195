// The kernel of decoding's attention over many sequences, against plain attention in f64.
#include "braid/backends/cuda/attention/decode_stream.cuh"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace braid::cuda::flash {

namespace {

constexpr int kSharedBytes = 227 * 1024;

struct Case {
  int heads, kv_heads, width, window, capacity;  // window 0: none
  std::vector<int> lengths, feed;                // cached before, and new tokens, of each sequence
  int blocks;
  bool append;  // the kernel puts the new key into the cache; else it is there
};

std::string to_string(const Case& c) {
  std::string text =
      fmt::format("{}/{} heads of {}, window {}, capacity {}, {} blocks, {}, lengths and new tokens", c.heads,
                  c.kv_heads, c.width, c.window, c.capacity, c.blocks, c.append ? "appending" : "appended");
  for (std::size_t s = 0; s < c.feed.size(); ++s) text += fmt::format(" {}+{}", c.lengths[s], c.feed[s]);
  return text;
}

// Keys, values and queries of every position of every sequence, and what the kernel sees of them.
class Sequences {
 public:
  Sequences(const Case& c, std::uint64_t seed)
      : c_(c), random_(seed), row_(static_cast<std::size_t>(c.kv_heads * c.width)) {
    for (const int n : c.feed) offsets_.push_back(offsets_.back() + n);
    lengths_.assign(c.lengths.begin(), c.lengths.end());
    const bf16 nan = __float2bfloat16_rn(NAN);  // whatever an unwritten slot holds
    k_cache.assign(c.feed.size() * static_cast<std::size_t>(c.capacity) * row_, nan);
    v_cache = k_cache;
    q = normal(static_cast<std::size_t>(tokens() * c.heads * c.width), 3);
    y.assign(q.size(), nan);
    for (std::size_t s = 0; s < c.feed.size(); ++s) {
      const auto count = static_cast<std::size_t>(c.lengths[s] + c.feed[s]);
      keys_.push_back(normal(count * row_, 1));
      values_.push_back(normal(count * row_, 1));
      for (int p = 0; p < c.lengths[s] + c.feed[s]; ++p) {
        const bool fresh = p >= c.lengths[s];
        if (fresh) k_fresh.insert(k_fresh.end(), key(s, p), key(s, p) + row_);
        if (fresh) v_fresh.insert(v_fresh.end(), value(s, p), value(s, p) + row_);
        if (fresh && c.append) continue;
        std::copy_n(key(s, p), row_, k_cache.begin() + static_cast<std::ptrdiff_t>(slot(s, p)));
        std::copy_n(value(s, p), row_, v_cache.begin() + static_cast<std::ptrdiff_t>(slot(s, p)));
      }
    }
  }

  int tokens() const { return offsets_.back(); }
  Problem problem() const {
    return {.offsets = offsets_.data(),
            .lengths = lengths_.data(),
            .tokens = tokens(),
            .segments = static_cast<std::int32_t>(c_.feed.size()),
            .heads = c_.heads,
            .kv_heads = c_.kv_heads,
            .width = c_.width,
            .window = c_.window == 0 ? std::numeric_limits<std::int32_t>::max() : c_.window,
            .capacity = static_cast<std::uint32_t>(c_.capacity),
            .scale = kScale};
  }
  EmulatedMap map(const std::vector<bf16>& cache) const {
    const bool whole = c_.width % kBoxWidth == 0;
    const int boxes = whole ? c_.width / kBoxWidth : 1;
    return {.data = cache.data(),
            .shape = {whole ? kBoxWidth : c_.width, c_.kv_heads, c_.capacity, boxes,
                      static_cast<std::int64_t>(c_.feed.size())},
            .stride = {1, c_.width, c_.kv_heads * c_.width, kBoxWidth,
                       std::int64_t{c_.capacity} * c_.kv_heads * c_.width},
            .box = {kBoxWidth, 1, kTileKeys, boxes, 1}};
  }

  void expect_right() const {
    double error = 0, size = 0;
    for (std::size_t s = 0; s < c_.feed.size(); ++s) {
      for (int i = 0; i < c_.feed[s]; ++i) {
        for (int h = 0; h < c_.heads; ++h) compare(s, i, h, error, size);
      }
    }
    // y is rounded to bf16: half a unit in 2^8, 1.1e-3 of its size on average.
    EXPECT_LT(std::sqrt(error / size), 3e-3);
    if (!c_.append) return;
    for (std::size_t s = 0; s < c_.feed.size(); ++s) {
      if (c_.feed[s] == 0) continue;
      const auto at = slot(s, c_.lengths[s]);
      for (std::size_t i = 0; i < row_; ++i) {
        ASSERT_EQ(__bfloat162float(k_cache[at + i]), __bfloat162float(key(s, c_.lengths[s])[i]));
        ASSERT_EQ(__bfloat162float(v_cache[at + i]), __bfloat162float(value(s, c_.lengths[s])[i]));
      }
    }
  }

  static constexpr float kScale = 0.2F;
  std::vector<bf16> k_cache, v_cache, k_fresh, v_fresh, q, y;

 private:
  std::vector<bf16> normal(std::size_t count, float scale) {
    std::normal_distribution<float> draw(0, scale);
    std::vector<bf16> values(count);
    for (auto& x : values) x = __float2bfloat16_rn(draw(random_));
    return values;
  }
  const bf16* key(std::size_t s, int p) const { return keys_[s].data() + static_cast<std::size_t>(p) * row_; }
  const bf16* value(std::size_t s, int p) const {
    return values_[s].data() + static_cast<std::size_t>(p) * row_;
  }
  std::size_t slot(std::size_t s, int p) const {
    return (s * static_cast<std::size_t>(c_.capacity) + static_cast<std::size_t>(p % c_.capacity)) * row_;
  }
  void compare(std::size_t s, int i, int h, double& error, double& size) const {
    const int position = c_.lengths[s] + i, low = std::max(0, position - problem().window + 1);
    const auto at = static_cast<std::size_t>(((offsets_[s] + i) * c_.heads + h) * c_.width);
    const int head = h / (c_.heads / c_.kv_heads) * c_.width;
    std::vector<double> weights;
    for (int p = low; p <= position; ++p) {
      double dot = 0;
      for (int d = 0; d < c_.width; ++d) {
        dot += double{__bfloat162float(q[at + static_cast<std::size_t>(d)])} *
               __bfloat162float(key(s, p)[head + d]);
      }
      weights.push_back(dot * kScale);
    }
    const double top = *std::ranges::max_element(weights);
    double total = 0;
    for (double& w : weights) total += w = std::exp(w - top);
    for (int d = 0; d < c_.width; ++d) {
      double want = 0;
      for (int p = low; p <= position; ++p) {
        want += weights[static_cast<std::size_t>(p - low)] / total * __bfloat162float(value(s, p)[head + d]);
      }
      const double got = __bfloat162float(y[at + static_cast<std::size_t>(d)]);
      ASSERT_TRUE(std::isfinite(got));
      error += (got - want) * (got - want);
      size += want * want;
    }
  }

  Case c_;
  std::mt19937_64 random_;
  std::size_t row_;
  std::vector<std::int32_t> offsets_{0}, lengths_;
  std::vector<std::vector<bf16>> keys_, values_;
};

template <int kWidth, int kQueries>
void run(const Case& c, std::uint64_t seed) {
  SCOPED_TRACE(fmt::format("{}, seed {}", to_string(c), seed));
  Sequences all(c, seed);
  const int query_blocks = (c.heads / c.kv_heads + kQueries - 1) / kQueries;
  const int stages = stages_of<kWidth, kQueries>(kSharedBytes);
  const auto rows = static_cast<std::size_t>(2 * c.blocks * kQueries);
  std::vector<float> sums(rows * static_cast<std::size_t>(c.width), NAN), stats(2 * rows, NAN);
  std::vector<std::uint32_t> arrived(static_cast<std::size_t>(all.tokens() * c.kv_heads * query_blocks));
  const EmulatedMap keys = all.map(all.k_cache), values = all.map(all.v_cache);
  const CacheMaps maps{tensor_map_of(keys), tensor_map_of(values)};
  const StreamArguments a{.y = all.y.data(),
                          .sums = sums.data(),
                          .stats = stats.data(),
                          .arrived = arrived.data(),
                          .q = all.q.data(),
                          .k = all.k_cache.data(),
                          .v = all.v_cache.data(),
                          .k_fresh = c.append ? all.k_fresh.data() : nullptr,
                          .v_fresh = c.append ? all.v_fresh.data() : nullptr,
                          .query_blocks = query_blocks,
                          .stages = stages,
                          .boxes = c.width % kBoxWidth == 0 ? 1 : kWidth / kBoxWidth,
                          .ahead = false};
  test::emulation::Launch launch{.blocks = std::vector<unsigned>(static_cast<std::size_t>(c.blocks)),
                                 .threads = 32 * kWarps<kWidth> + 32,
                                 .seed = seed};
  std::iota(launch.blocks.begin(), launch.blocks.end(), 0U);
  std::mt19937_64 random(seed);
  std::ranges::shuffle(launch.blocks, random);
  const Problem p = all.problem();
  test::emulation::run(launch, [&] { stream_kernel<kWidth, kQueries>(a, p, maps); });
  all.expect_right();
  EXPECT_EQ(std::ranges::count(arrived, 0U), std::ssize(arrived)) << "counters are left at zero";
}

TEST(EmulatedDecodeStream, IsAttention) {
  // Rings of shared memory that are filled many times; one block, several; heads in pieces and whole.
  run<128, 1>({2, 2, 128, 0, 1400, {1300, 37, 0}, {1, 1, 1}, 4, true}, 1);
  run<128, 1>({1, 1, 128, 0, 2100, {2000}, {1}, 1, true}, 2);
  run<256, 1>({1, 1, 256, 0, 500, {400, 90}, {1, 1}, 1, true}, 3);
  // Widths that fill no box; idle sequences; tiles filled to their ends.
  run<64, 1>({1, 1, 16, 0, 170, {100, 7, 31, 32, 63}, {1, 0, 1, 1, 1}, 4, true}, 4);
  run<128, 8>({9, 1, 72, 0, 300, {200, 64, 3}, {1, 1, 1}, 3, true}, 5);
  // Windows, in caches that have wrapped or not; the oldest key's slot is the new one's.
  run<64, 8>({6, 3, 64, 50, 60, {130, 59, 60, 20}, {1, 1, 1, 1}, 5, true}, 6);
  run<64, 1>({2, 2, 64, 58, 60, {1000, 61, 59, 57, 58, 119}, {1, 1, 1, 1, 1, 1}, 5, true}, 7);
  run<64, 1>({2, 2, 40, 60, 60, {1000, 61, 59, 57, 58, 119}, {1, 1, 1, 1, 1, 1}, 3, true}, 8);
  run<64, 8>({6, 3, 64, 50, 300, {1000, 310, 299, 300, 301, 20}, {1, 1, 1, 1, 1, 1}, 5, true}, 9);
  run<128, 8>({20, 2, 128, 1, 33, {100, 32, 33, 0}, {1, 1, 1, 1}, 6, true}, 10);
  // Several tokens of a sequence.
  run<64, 8>({4, 2, 64, 0, 200, {90, 0, 127}, {3, 1, 5}, 4, false}, 11);
  run<64, 1>({2, 2, 64, 96, 131, {1000, 61, 259, 257, 158, 119}, {2, 1, 3, 1, 1, 4}, 7, false}, 12);
}

void expect_random_cases(std::uint64_t first, std::uint64_t last) {
  for (std::uint64_t seed = first; seed < last; ++seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&](int low, int high) { return std::uniform_int_distribution(low, high)(random); };
    Case c{};
    const int group = draw(1, 10);
    c.kv_heads = draw(1, 3);
    c.heads = c.kv_heads * group;
    c.width = 8 * draw(1, 8);
    c.window = draw(0, 1) == 0 ? 0 : draw(1, 150);
    c.append = draw(0, 2) > 0;
    int longest = 1, most = 0;
    for (int s = draw(1, 6); s > 0; --s) {
      c.feed.push_back(c.feed.empty() ? 1 : c.append ? draw(0, 1) : draw(0, 5));
      c.lengths.push_back(draw(0, c.window == 0 ? 250 : 500));
      longest = std::max(longest, c.feed.back());
      most = std::max(most, c.lengths.back() + c.feed.back());
    }
    c.capacity = c.window == 0 ? most + draw(0, 40) : c.window + longest - 1 + draw(0, 60);
    const int tokens = std::accumulate(c.feed.begin(), c.feed.end(), 0);
    c.blocks = draw(1, tokens * c.kv_heads);
    group == 1 ? run<64, 1>(c, seed) : run<64, 8>(c, seed);
  }
}

TEST(EmulatedDecodeStream, RandomCases) { expect_random_cases(100, 130); }
TEST(EmulatedDecodeStream, FullRandomCases) { expect_random_cases(1000, 1400); }

// What a wrong kernel would do.
TEST(EmulatedDecodeStream, MistakesShow) {
  using test::emulation::Launch, test::emulation::run;
  const Launch one{.blocks = {0}, .threads = 32, .seed = 1};
  __shared__ std::uint64_t barrier;
  const SharedAddress at = shared_address(&barrier);
  const auto first = [] { return threadIdx.x == 0; };
  EXPECT_THROW(run(one, [&] { wait_for_phase(at, 0); }), std::runtime_error) << "no such barrier";
  const auto for_ever = [&] {
    if (first()) init_barrier(at, 1);
    __syncthreads();
    wait_for_phase(at, 0);
  };
  EXPECT_THROW(run(one, for_ever), std::runtime_error) << "nobody arrives";
  const auto too_many = [&] {
    if (!first()) return;
    init_barrier(at, 1);
    arrive_expecting(at, 4);
    arrive(at);
  };
  EXPECT_THROW(run(one, too_many), std::runtime_error) << "an arrival too many";
  const auto left = [] { test::emulation::later([] {}); };
  EXPECT_THROW(run(one, left), std::runtime_error) << "copies that nobody waits for";
}

}  // namespace
}  // namespace braid::cuda::flash

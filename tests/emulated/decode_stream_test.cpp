// The kernel of decoding's attention over many sequences, against plain attention in f64.
#include "braid/backends/cuda/attention/decode_stream.cuh"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "tests/support/trial.h"

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

// Slots that no key was put into hold NaN.
void spoil_unwritten(const Case& c, const Tensor& cache) {
  const std::int64_t row = c.kv_heads * c.width;
  for (std::size_t s = 0; s < c.feed.size(); ++s) {
    bf16* const slots = pointer<bf16>(cache) + static_cast<std::int64_t>(s) * c.capacity * row;
    std::fill(slots + std::min(c.lengths[s], c.capacity) * row, slots + c.capacity * row,
              __float2bfloat16_rn(NAN));
  }
}

EmulatedMap map_of(const Tensor& cache) {
  const auto C = cache.shape[1], H = cache.shape[2], D = cache.shape[3];
  const bool whole = D % kBoxWidth == 0;
  const auto boxes = whole ? D / kBoxWidth : 1;
  return {.data = pointer<bf16>(cache),
          .shape = {whole ? kBoxWidth : D, H, C, boxes, cache.shape[0]},
          .stride = {1, D, H * D, kBoxWidth, C * H * D},
          .box = {kBoxWidth, 1, kTileKeys, static_cast<int>(boxes), 1}};
}

// Judged by the op's reference in f64, which also says what the caches hold in the end.
template <int kWidth, int kQueries>
void run(const Case& c, std::uint64_t seed) {
  SCOPED_TRACE(fmt::format("{}, seed {}", to_string(c), seed));
  test::TestTensors t(seed, DType::bf16);
  auto reference = test::reference_context();
  const auto precise = [&](const ConstTensor& x) { return t.copy_of(x, DType::f64); };
  const std::vector<std::int64_t> feed(c.feed.begin(), c.feed.end());
  const std::int64_t tokens = test::sum_of(feed);
  const Shape slots{std::ssize(c.feed), c.capacity, c.kv_heads, c.width};
  ops::KeyValueCache cache{t.normal("k cache", DType::bf16, slots), t.normal("v cache", DType::bf16, slots)};
  spoil_unwritten(c, cache.k);
  spoil_unwritten(c, cache.v);
  const ops::AttentionInputs in{t.normal("q", DType::bf16, {tokens, c.heads, c.width}, {.scale = 3}),
                                t.normal("k", DType::bf16, {tokens, c.kv_heads, c.width}),
                                t.normal("v", DType::bf16, {tokens, c.kv_heads, c.width})};
  const Tensor y = t.make(DType::bf16, in.q.shape), want = t.make(DType::f64, in.q.shape);
  const ops::KeyValueCache want_cache{precise(cache.k), precise(cache.v)};
  const auto segments = t.segments(feed);
  const Tensor lengths = t.of(std::vector<std::int32_t>(c.lengths.begin(), c.lengths.end()));
  const ops::AttentionOptions options{.window = c.window, .scale = 0.2};
  ops::attention_cached(*reference, want, want_cache, {precise(in.q), precise(in.k), precise(in.v)}, segments,
                        lengths, options);
  if (!c.append) {
    cache = {t.copy_of(want_cache.k, DType::bf16), t.copy_of(want_cache.v, DType::bf16)};
  }

  Problem p = make_problem("attention_cached", in, segments, options);
  p.lengths = pointer<std::int32_t>(lengths);
  p.capacity = static_cast<std::uint32_t>(c.capacity);
  const int query_blocks = (c.heads / c.kv_heads + kQueries - 1) / kQueries;
  const Tensor sums = t.make(DType::f32, {2 * c.blocks * kQueries, c.width}),
               stats = t.make(DType::f32, {2 * c.blocks * kQueries, 2});
  std::vector<std::uint32_t> arrived(static_cast<std::size_t>(tokens * c.kv_heads * query_blocks));
  const EmulatedMap keys = map_of(cache.k), values = map_of(cache.v);
  const CacheMaps maps{tensor_map_of(keys), tensor_map_of(values)};
  const StreamArguments a{.y = pointer<bf16>(y),
                          .sums = pointer<float>(sums),
                          .stats = pointer<float>(stats),
                          .arrived = arrived.data(),
                          .q = pointer<bf16>(in.q),
                          .k = pointer<bf16>(cache.k),
                          .v = pointer<bf16>(cache.v),
                          .k_fresh = c.append ? pointer<bf16>(in.k) : nullptr,
                          .v_fresh = c.append ? pointer<bf16>(in.v) : nullptr,
                          .query_blocks = query_blocks,
                          .stages = stages_of<kWidth, kQueries>(kSharedBytes),
                          .boxes = c.width % kBoxWidth == 0 ? 1 : kWidth / kBoxWidth,
                          .ahead = false};
  test::emulation::Launch launch{.blocks = std::vector<unsigned>(static_cast<std::size_t>(c.blocks)),
                                 .threads = 32 * kWarps<kWidth> + 32,
                                 .seed = seed};
  std::iota(launch.blocks.begin(), launch.blocks.end(), 0U);
  std::mt19937_64 random(seed);
  std::ranges::shuffle(launch.blocks, random);
  test::emulation::run(launch, [&] { stream_kernel<kWidth, kQueries>(a, p, maps); });

  // y is rounded to bf16: half a unit in 2^8, 1.1e-3 of its size on average.
  test::expect_close(y, want, {3e-3, 3e-2}, "y");
  EXPECT_EQ(std::ranges::count(arrived, 0U), std::ssize(arrived)) << "counters are left at zero";
  for (const auto& [got, expected] : {std::pair{cache.k, want_cache.k}, {cache.v, want_cache.v}}) {
    for (std::int64_t i = 0; i < got.count(); ++i) {
      const double x = __bfloat162float(pointer<bf16>(got)[i]), e = pointer<double>(expected)[i];
      ASSERT_TRUE(x == e || (std::isnan(x) && std::isnan(e))) << "the cache's element " << i;
    }
  }
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

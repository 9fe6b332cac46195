#include "braid/backends/cuda/attention/cudnn_problem.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace braid::cuda::cudnn {
namespace {

constexpr std::int64_t kTile =
    128;  // tokens; for other lengths cuDNN would pad by itself, through host memory
constexpr double kWantedScoreBytes = 2.0 * (1 << 30);  // heads are computed in groups that need about this

std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }
std::int64_t power_of_two(std::int64_t n) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(n)));
}

std::int64_t padded_longest(std::int64_t longest, std::int64_t tokens) {
  return std::min(std::max(kTile, power_of_two(longest)), round_up(tokens, kTile));
}

// The most key/value heads at once, dividing all of them, whose scores are no more than wanted; at least one.
std::int64_t kv_heads_at_once(Problem p) {
  const std::int64_t group = p.all_heads / p.all_kv_heads;
  for (std::int64_t heads = p.all_kv_heads; heads > 1; --heads) {
    p.heads = heads * group;
    if (p.all_kv_heads % heads == 0 && score_bytes(p) <= kWantedScoreBytes) return heads;
  }
  return 1;
}

}  // namespace

double score_bytes(const Problem& p) {
  const auto longest = static_cast<double>(p.longest);
  return 2.0 * static_cast<double>(p.sequences * p.heads) * longest * longest;
}

Problem problem_of(const ops::AttentionInputs& in, const ops::Segments& segments,
                   const ops::AttentionOptions& options, bool backward) {
  Problem p{};
  const std::int64_t N = in.q.shape[0], count = segments.count();
  const std::int64_t longest = segments.longest > 0 ? std::min(segments.longest, N) : N;
  p.backward = backward;
  p.packed = N != count * longest || longest % kTile != 0;
  p.tokens = p.packed ? round_up(N, std::max(kTile, power_of_two(N) / 8)) : N;
  p.sequences = p.packed ? power_of_two(count) : count;
  p.longest = p.packed ? padded_longest(longest, N) : longest;
  p.all_heads = in.q.shape[1], p.all_kv_heads = in.k.shape[1], p.width = in.q.shape[2];
  p.kv_heads = backward ? kv_heads_at_once(p) : p.all_kv_heads;
  p.heads = p.kv_heads * (p.all_heads / p.all_kv_heads);
  p.window = options.window >= longest ? 0 : options.window;
  p.scale =
      static_cast<float>(options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(p.width)));
  return p;
}

Problem cached_problem_of(const ops::AttentionInputs& in, const ops::KeyValueCache& cache,
                          const ops::Segments& segments, const ops::AttentionOptions& options) {
  Problem p = problem_of(in, segments, options, false);
  const std::int64_t N = in.q.shape[0], longest = segments.longest > 0 ? std::min(segments.longest, N) : N;
  p.packed = true;
  p.sequences = segments.count();
  p.longest = padded_longest(longest, N);
  p.tokens = 0;  // forward does not need them, and one plan serves any number
  p.capacity = cache.k.shape[1];
  p.window = options.window >= p.capacity ? 0 : options.window;
  return p;
}

}  // namespace braid::cuda::cudnn

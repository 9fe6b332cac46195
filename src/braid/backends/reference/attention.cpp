#include "braid/ops/attention.h"

#include <algorithm>
#include <vector>

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {
namespace {

double scale_of(const ops::AttentionInputs& in, const ops::AttentionOptions& options) {
  return options.scale != 0 ? options.scale : 1.0 / std::sqrt(static_cast<double>(in.q.shape[2]));
}

// First position that position p sees, `begin` being the first of its sequence.
std::int64_t first_visible(std::int64_t p, std::int64_t begin, std::int64_t window) {
  return window == 0 ? begin : std::max(begin, p - window + 1);
}

template <class T>
double dot(const T* a, const T* b, std::int64_t D) {
  double sum = 0;
  for (std::int64_t d = 0; d < D; ++d) sum += to_double(a[d]) * to_double(b[d]);
  return sum;
}

// y (D) = softmax over the keys of scale · q · key, times their values. Returns the log-sum-exp.
template <class T>
double attend(T* y, const T* q, const std::vector<const T*>& keys, const std::vector<const T*>& values,
              std::int64_t D, double scale) {
  std::vector<double> scores, sum(static_cast<std::size_t>(D), 0.0);
  for (const T* key : keys) scores.push_back(scale * dot(q, key, D));
  const double top = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (std::size_t j = 0; j < keys.size(); ++j) {
    const double weight = std::exp(scores[j] - top);
    total += weight;
    for (std::size_t d = 0; d < sum.size(); ++d) sum[d] += weight * to_double(values[j][d]);
  }
  for (std::size_t d = 0; d < sum.size(); ++d) y[d] = static_cast<T>(sum[d] / total);
  return top + std::log(total);
}

}  // namespace

void attention_forward(Context&, Tensor y, Tensor log_sum_exp, ops::AttentionInputs in,
                       ops::Segments segments, ops::AttentionOptions options) {
  const std::int64_t H = in.q.shape[1], D = in.q.shape[2], Hkv = in.k.shape[1], group = H / Hkv;
  const double scale = scale_of(in, options);
  require_segments("attention_forward", segments, in.q.shape[0]);
  visit_float(in.q.dtype, [&]<class T>() {
    for (std::int64_t s = 0; s < segments.count(); ++s) {
      const Range range = segment(segments, s);
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        for (std::int64_t h = 0; h < H; ++h) {
          std::vector<const T*> keys, values;
          for (auto j = first_visible(n, range.begin, options.window); j <= n; ++j) {
            keys.push_back(in.k.as<T>() + (j * Hkv + h / group) * D);
            values.push_back(in.v.as<T>() + (j * Hkv + h / group) * D);
          }
          const auto row = n * H + h;
          const double lse = attend(y.as<T>() + row * D, in.q.as<T>() + row * D, keys, values, D, scale);
          log_sum_exp.as<T>()[row] = static_cast<T>(lse);
        }
      }
    }
  });
}

void attention_backward(Context&, ops::AttentionGradients grads, ConstTensor dy, ops::AttentionInputs in,
                        ops::AttentionOutputs out, ops::Segments segments, ops::AttentionOptions options) {
  const std::int64_t H = in.q.shape[1], D = in.q.shape[2], Hkv = in.k.shape[1], group = H / Hkv;
  const double scale = scale_of(in, options);
  require_segments("attention_backward", segments, in.q.shape[0]);
  visit_float(in.q.dtype, [&]<class T>() {
    const auto count = [](const ConstTensor& t) { return static_cast<std::size_t>(t.count()); };
    std::vector<double> dq(count(in.q), 0.0), dk(count(in.k), 0.0), dv(count(in.v), 0.0);
    for (std::int64_t s = 0; s < segments.count(); ++s) {
      const Range range = segment(segments, s);
      for (std::int64_t row = range.begin * H; row < range.end * H; ++row) {
        const std::int64_t n = row / H, h = row % H;
        const T *q = in.q.as<T>() + row * D, *d_out = dy.as<T>() + row * D;
        const double dot_dy_y = dot(d_out, out.y.as<T>() + row * D, D);
        for (auto j = first_visible(n, range.begin, options.window); j <= n; ++j) {
          const std::int64_t key = (j * Hkv + h / group) * D;
          const T *k = in.k.as<T>() + key, *v = in.v.as<T>() + key;
          const double p = std::exp(scale * dot(q, k, D) - to_double(out.log_sum_exp.as<T>()[row]));
          const double dscore = scale * p * (dot(d_out, v, D) - dot_dy_y);
          for (std::int64_t d = 0; d < D; ++d) {
            dq[static_cast<std::size_t>(row * D + d)] += dscore * to_double(k[d]);
            dk[static_cast<std::size_t>(key + d)] += dscore * to_double(q[d]);
            dv[static_cast<std::size_t>(key + d)] += p * to_double(d_out[d]);
          }
        }
      }
    }
    const auto store = [](const Tensor& t, const std::vector<double>& sum) {
      std::transform(sum.begin(), sum.end(), t.as<T>(), [](double x) { return static_cast<T>(x); });
    };
    store(grads.q, dq);
    store(grads.k, dk);
    store(grads.v, dv);
  });
}

void attention_cached(Context&, Tensor y, ops::KeyValueCache cache, ops::AttentionInputs in,
                      ops::Segments segments, ConstTensor lengths, ops::AttentionOptions options) {
  const std::int64_t H = in.q.shape[1], D = in.q.shape[2], Hkv = in.k.shape[1], group = H / Hkv;
  const std::int64_t capacity = cache.k.shape[1], token = Hkv * D;
  const double scale = scale_of(in, options);
  require_segments("attention_cached", segments, in.q.shape[0]);
  visit_float(in.q.dtype, [&]<class T>() {
    for (std::int64_t s = 0; s < segments.count(); ++s) {
      const Range range = segment(segments, s);
      const std::int64_t length = lengths.as<std::int32_t>()[s];
      const std::int64_t all = length + range.length();
      require(cache.longest.value_or(length) >= length,
              "attention_cached: sequence {} has {} cached tokens, cache.longest is {}", s, length,
              cache.longest.value_or(0));
      const std::int64_t visible = options.window == 0 ? all : options.window + range.length() - 1;
      require(std::min(all, visible) <= capacity,
              "attention_cached: sequence {} needs {} cached tokens, cache.k is {}", s,
              std::min(all, visible), describe(cache.k));
      T *k = cache.k.as<T>() + s * capacity * token, *v = cache.v.as<T>() + s * capacity * token;
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        const std::int64_t slot = (length + n - range.begin) % capacity;
        std::copy_n(in.k.as<T>() + n * token, token, k + slot * token);
        std::copy_n(in.v.as<T>() + n * token, token, v + slot * token);
      }
      for (std::int64_t row = range.begin * H; row < range.end * H; ++row) {
        const std::int64_t position = length + row / H - range.begin, h = row % H;
        std::vector<const T*> keys, values;
        for (auto j = first_visible(position, 0, options.window); j <= position; ++j) {
          const std::int64_t at = (j % capacity) * token + h / group * D;
          keys.push_back(k + at);
          values.push_back(v + at);
        }
        attend(y.as<T>() + row * D, in.q.as<T>() + row * D, keys, values, D, scale);
      }
    }
  });
}

}  // namespace braid::reference

#include "braid/lab/inspect/inspect.h"

#include <cmath>

#include "braid/model/host_batch.h"
#include "braid/model/language_model.h"
#include "braid/model/work_memory.h"
#include "braid/ops/embedding.h"

namespace braid::lab {
namespace {

// A layer's inputs to its recurrence, and its outputs, on the host.
struct LayerValues {
  std::size_t layer = 0;
  std::int64_t key_heads = 0, heads = 0, key_dim = 0, value_dim = 0;
  std::vector<float> q, k, v, log_decay, beta, y;
};

LayerValues values_of(Memory& memory, std::size_t layer, const nn::GatedDeltaNet::Saved& s) {
  return {.layer = layer,
          .key_heads = s.k.shape[1],
          .heads = s.v.shape[1],
          .key_dim = s.k.shape[2],
          .value_dim = s.v.shape[2],
          .q = to_host<float>(memory, s.q),
          .k = to_host<float>(memory, s.k),
          .v = to_host<float>(memory, s.v),
          .log_decay = to_host<float>(memory, s.log_decay),
          .beta = to_host<float>(memory, s.beta),
          .y = to_host<float>(memory, s.y)};
}

// The blocks one after the other, everything kept, as training runs them.
std::vector<LayerValues> run_blocks(const Backend& backend, const model::Model& model,
                                    std::span<const std::int32_t> ids) {
  const auto layout = model::RowLayout::of(1, std::ssize(ids));
  const model::HostBatch host{ids, {}, layout.positions, layout.offsets};
  const auto& p = model.parameters.tree();
  std::vector<LayerValues> layers;
  model::run_once(backend, [&](Context& ctx, Arena& step) {
    const auto policy = model::make_policy(ctx, step, model.config, std::ssize(ids), DType::f32);
    const auto batch = host.upload(ctx, step);
    Tensor x = step.make(DType::f32, {std::ssize(ids), model.config.hidden_size});
    ops::embedding_forward(ctx, x, batch.ids, p.embedding);
    for (std::size_t i = 0; i < p.blocks.size(); ++i) {
      const Tensor y = step.make(x.dtype, x.shape);
      const auto saved = model::Block::forward(ctx, step, y, x, p.blocks[i], policy.blocks[i], batch.tokens);
      x = y;
      const auto* linear = std::get_if<nn::GatedDeltaNet::Saved>(&saved.mixer);
      if (linear != nullptr && ctx.memory != nullptr) layers.push_back(values_of(*ctx.memory, i, *linear));
    }
  });
  return layers;
}

double norm(std::span<const double> values) {
  double sum = 0;
  for (const double v : values) sum += v * v;
  return std::sqrt(sum);
}

std::vector<double> normalised(const float* from, std::int64_t size) {
  std::vector<double> out(from, from + size);
  double sum = ops::kDeltaNormEpsilon;
  for (const double v : out) sum += v * v;
  for (double& v : out) v /= std::sqrt(sum);
  return out;
}

// One head's state (Dk, Dv), token by token.
class HeadState {
 public:
  HeadState(std::int64_t rows, std::int64_t columns)
      : rows_(static_cast<std::size_t>(rows)),
        columns_(static_cast<std::size_t>(columns)),
        s_(rows_ * columns_) {}

  // Appends to the trace what the token does.
  void step(HeadTrace& trace, std::span<const double> k, std::span<const double> v) {
    const double decay = trace.decay.back(), beta = trace.beta.back();
    const double key = norm(k);
    const auto before = applied(k);  // Sᵀ k̂
    trace.eigenvalue.push_back(decay * (1 - beta * key * key));
    trace.erased.push_back(decay * beta * key * norm(before));
    trace.written.push_back(beta * key * norm(v));
    for (std::size_t i = 0; i < rows_; ++i) {
      for (std::size_t j = 0; j < columns_; ++j) {
        double& s = s_[i * columns_ + j];
        s = decay * s + beta * k[i] * (v[j] - decay * before[j]);
      }
    }
    trace.state_norm.push_back(norm(s_));
    trace.effective_rank.push_back(rank());
  }

  // Sᵀ x
  std::vector<double> applied(std::span<const double> x) const {
    std::vector<double> out(columns_);
    for (std::size_t i = 0; i < rows_; ++i) {
      for (std::size_t j = 0; j < columns_; ++j) out[j] += x[i] * s_[i * columns_ + j];
    }
    return out;
  }

 private:
  // Σ σ² is the trace of S Sᵀ, Σ σ⁴ the square of its Frobenius norm.
  double rank() const {
    double squares = 0, fourths = 0;
    for (std::size_t a = 0; a < rows_; ++a) {
      for (std::size_t b = 0; b < rows_; ++b) {
        double dot = 0;
        for (std::size_t j = 0; j < columns_; ++j) dot += s_[a * columns_ + j] * s_[b * columns_ + j];
        fourths += dot * dot;
        if (a == b) squares += dot;
      }
    }
    return fourths > 0 ? squares * squares / fourths : 0;
  }

  std::size_t rows_, columns_;
  std::vector<double> s_;
};

struct Differences {
  double squares = 0, reference = 0;
};

HeadTrace follow(const LayerValues& l, std::int64_t head, std::int64_t tokens, Differences& differences) {
  HeadTrace trace;
  trace.layer = l.layer;
  trace.head = static_cast<std::size_t>(head);
  HeadState state(l.key_dim, l.value_dim);
  const auto key_head = head / (l.heads / l.key_heads);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto gate = static_cast<std::size_t>(t * l.heads + head);
    const auto key = (t * l.key_heads + key_head) * l.key_dim, value = (t * l.heads + head) * l.value_dim;
    trace.decay.push_back(std::exp(l.log_decay[gate]));
    trace.beta.push_back(l.beta[gate]);
    const std::vector<double> v(l.v.data() + value, l.v.data() + value + l.value_dim);
    state.step(trace, normalised(l.k.data() + key, l.key_dim), v);
    const auto y = state.applied(normalised(l.q.data() + key, l.key_dim));
    for (std::int64_t j = 0; j < l.value_dim; ++j) {
      const double theirs = l.y[static_cast<std::size_t>(value + j)];
      const double ours = y[static_cast<std::size_t>(j)] / std::sqrt(static_cast<double>(l.key_dim));
      differences.squares += (ours - theirs) * (ours - theirs);
      differences.reference += theirs * theirs;
    }
  }
  return trace;
}

}  // namespace

Inspection inspect(const Backend& backend, const model::Model& model, std::span<const std::int32_t> ids,
                   std::vector<std::string> words) {
  require(!ids.empty(), "lab inspect: the text has no tokens");
  for (const auto id : ids) {
    require(id >= 0 && id < model.config.vocabulary_size,
            "lab inspect: token {} is outside the model's vocabulary of {}: was it made for this problem and "
            "form?",
            id, model.config.vocabulary_size);
  }
  Inspection out{.words = std::move(words), .heads = {}};
  Differences differences;
  for (const auto& layer : run_blocks(backend, model, ids)) {
    for (std::int64_t head = 0; head < layer.heads; ++head) {
      out.heads.push_back(follow(layer, head, std::ssize(ids), differences));
    }
  }
  if (differences.reference > 0) out.difference = std::sqrt(differences.squares / differences.reference);
  return out;
}

}  // namespace braid::lab

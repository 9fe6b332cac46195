#include "braid/eval/dump.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "braid/model/session.h"
#include "braid/model/work_memory.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/optimizer.h"

namespace braid::eval {
namespace {

using model::Model;

struct TokenMatrix {
  std::int64_t rows = 0, columns = 0;
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> row(std::int64_t r) const {
    return {ids.begin() + r * columns, ids.begin() + (r + 1) * columns};
  }
};

TokenMatrix read_ids(const io::TensorFiles& inputs, const std::string& name, std::int64_t vocabulary) {
  const ConstTensor& t = inputs.at(name);
  const auto file = inputs.path().string();
  require(t.shape.rank == 2 && t.count() > 0 && (t.dtype == DType::i64 || t.dtype == DType::i32),
          "{}: '{}' is {}, expected integers (rows, tokens)", file, name, describe(t));
  TokenMatrix m{t.shape[0], t.shape[1], {}};
  for (std::int64_t i = 0; i < t.count(); ++i) {
    const std::int64_t id = t.dtype == DType::i64 ? t.as<std::int64_t>()[i] : t.as<std::int32_t>()[i];
    require(id >= 0 && id < vocabulary, "{}: '{}' holds id {}, the vocabulary has {}", file, name, id,
            vocabulary);
    m.ids.push_back(static_cast<std::int32_t>(id));
  }
  return m;
}

// The batch of whole rows, each token predicting the next.
struct DumpBatch {
  explicit DumpBatch(const TokenMatrix& m) : ids(m.ids), layout(model::RowLayout::of(m.rows, m.columns)) {
    for (std::int64_t r = 0; r < m.rows; ++r) {
      const auto row = m.row(r);
      targets.insert(targets.end(), row.begin() + 1, row.end());
      targets.push_back(-1);
    }
    predicted = m.rows * (m.columns - 1);
  }
  model::Batch upload(const Context& ctx, Arena& arena) const {
    return model::HostBatch{ids, targets, layout.positions, layout.offsets}.upload(ctx, arena);
  }
  double mean(double sum) const { return sum / static_cast<double>(predicted); }
  std::vector<std::int32_t> ids, targets;
  model::RowLayout layout;
  std::int64_t predicted = 0;
};

void put_scalar(TensorBag& out, const std::string& name, double value) {
  *out.make(name, DType::f32, {}).as<float>() = static_cast<float>(value);
}

void dump_logits(TensorBag& out, const Backend& backend, const Model& m, const DumpBatch& batch,
                 const TokenMatrix& ids) {
  const Shape shape{ids.rows * ids.columns, m.config.vocabulary_size};
  const Tensor logits = out.make("logits", DType::f32, {ids.rows, ids.columns, m.config.vocabulary_size});
  const DType activations = backend.activation_dtype(m.parameters.tree().embedding.dtype);
  model::LossSums losses;
  model::run_once(backend, [&](Context& ctx, Arena& step) {
    const auto policy = model::make_policy(ctx, step, m.config, ids.columns, activations);
    const auto inputs = batch.upload(ctx, step);
    const model::TokenLosses l{step.make(DType::f32, {shape[0]}), step.make(DType::f32, {shape[0]})};
    const Tensor there = step.make(DType::f32, shape);
    model::compute_logits(ctx, step, there, m.parameters.tree(), policy, inputs);
    model::score(ctx, step, l, m.parameters.tree(), policy, inputs);
    if (ctx.device == Device::dry) return;
    losses = model::sum_losses(*ctx.memory, l);
    ctx.memory->read(logits.mutable_data(), there.data, there.bytes());
  });
  put_scalar(out, "loss", batch.mean(losses.loss));
  put_scalar(out, "z_loss", batch.mean(losses.squared_log_sum_exp));
}

void dump_steps(TensorBag& out, const Backend& backend, const Model& m,
                const std::vector<std::int32_t>& row) {
  const auto steps = std::min<std::int64_t>(static_cast<std::int64_t>(row.size()), kDumpSteps);
  const Tensor logits = out.make("step_logits", DType::f32, {steps, m.config.vocabulary_size});
  model::Session session(backend, m.config, m.parameters.tree(),
                         {.sequences = 1, .capacity = steps, .max_tokens = 1});
  for (std::int64_t t = 0; t < steps; ++t) {
    const ConstTensor one = session.extend({{row[static_cast<std::size_t>(t)]}});
    std::memcpy(rows_of(logits, t, 1).mutable_data(), one.data, one.bytes());
  }
}

// The best token that does not end the text, as the reference's min_new_tokens makes it.
std::int32_t best_token(const ConstTensor& logits, const std::vector<std::int64_t>& eos) {
  const float* x = logits.as<float>();
  std::int64_t best = -1;
  for (std::int64_t i = 0; i < logits.count(); ++i) {
    if (std::ranges::find(eos, i) != eos.end()) continue;
    if (best < 0 || x[i] > x[best]) best = i;
  }
  return static_cast<std::int32_t>(best);
}

void dump_greedy(TensorBag& out, const Backend& backend, const Model& m, std::vector<std::int32_t> tokens) {
  const auto prompt = static_cast<std::int64_t>(tokens.size()), total = prompt + kDumpNewTokens;
  model::Session session(backend, m.config, m.parameters.tree(),
                         {.sequences = 1, .capacity = total, .max_tokens = prompt});
  ConstTensor logits = session.extend({tokens});
  for (std::int64_t i = 0; i < kDumpNewTokens; ++i) {
    tokens.push_back(best_token(logits, m.config.eos_ids));
    if (i + 1 < kDumpNewTokens) logits = session.extend({{tokens.back()}});
  }
  std::int64_t* greedy = out.make("greedy", DType::i64, {1, total}).as<std::int64_t>();
  std::ranges::copy(tokens, greedy);
}

// Gradients and optimiser steps, on f32 master weights.
class Updates {
 public:
  Updates(const Backend& backend, const Model& m, const DumpBatch& batch, DType activations)
      : backend_(backend),
        config_(m.config),
        batch_(batch),
        activations_(activations),
        master_(master_weights(m, backend)),
        gradients_(m.config, {}, backend.memory),
        first_(m.config, {}, backend.memory),
        second_(m.config, {}, backend.memory) {
    if (activations == DType::bf16) {
      copy_ = model::ComputeCopy(m.config, master_.tree(), backend.memory);
      refresh();
    }
  }

  // Gradients of the mean loss, into fresh memory; returns the loss.
  double differentiate() {
    model::LossSums losses;
    model::run_once(backend_, [&](Context& ctx, Arena& step) {
      const auto positions = *std::ranges::max_element(batch_.layout.positions) + 1;
      const auto policy = model::make_policy(ctx, step, config_, positions, activations_);
      const auto inputs = batch_.upload(ctx, step);
      const model::TokenLosses l{step.make(DType::f32, inputs.ids.shape),
                                 step.make(DType::f32, inputs.ids.shape)};
      ops::fill(ctx, gradients_.flat(), 0);
      model::loss_and_gradients(ctx, step, l, gradients_.tree(), compute_tree(), policy, inputs,
                                {.scale = model::upload(ctx, step, std::array{batch_.mean(1)})});
      if (ctx.device != Device::dry) losses = model::sum_losses(*ctx.memory, l);
    });
    return batch_.mean(losses.loss);
  }
  void update(std::int64_t step) {
    model::run_once(backend_, [&](Context& ctx, Arena& work) {
      const ops::AdamWOptions options{};
      const auto [rate, correction1, correction2] = ops::AdamWRates::of(1e-3, step, options);
      const ops::AdamWPart all{.parameters = master_.flat(),
                               .first_moment = first_.flat(),
                               .second_moment = second_.flat(),
                               .gradients = gradients_.flat(),
                               .weight_decay = 0.1};
      ops::adamw(ctx, {&all, 1}, {}, model::upload(ctx, work, std::array{rate, correction1, correction2}),
                 options);
    });
    if (activations_ == DType::bf16) refresh();
  }
  void put_gradients(TensorBag& out) const {
    const model::HostParameters host(gradients_, config_);
    for (const auto& [name, t] : model::memory_tensors(host.tree(), config_)) {
      std::memcpy(out.make("grad." + name, DType::f32, t.shape).mutable_data(), t.data, t.bytes());
    }
  }

 private:
  static model::ParameterSet master_weights(const Model& m, const Backend& backend) {
    model::ParameterSet master(m.config, {}, backend.memory);
    const auto from = model::list(m.parameters.tree(), m.config), to = model::list(master.tree(), m.config);
    model::run_once(backend, [&](Context& ctx, Arena&) {
      for (std::size_t i = 0; i < from.size(); ++i) ops::copy(ctx, to[i].tensor, from[i].tensor);
    });
    return master;
  }
  const model::Parameters& compute_tree() const {
    return activations_ == DType::bf16 ? copy_.tree() : master_.tree();
  }
  void refresh() {
    const auto from = model::list(master_.tree(), config_), to = model::list(copy_.tree(), config_);
    model::run_once(backend_, [&](Context& ctx, Arena&) {
      for (std::size_t i = 0; i < from.size(); ++i) {
        if (to[i].tensor.data != from[i].tensor.data) ops::copy(ctx, to[i].tensor, from[i].tensor);
      }
    });
  }

  const Backend& backend_;
  const model::ModelConfig& config_;
  const DumpBatch& batch_;
  DType activations_;
  model::ParameterSet master_, gradients_, first_, second_;
  model::ComputeCopy copy_;
};

}  // namespace

Tensor TensorBag::make(const std::string& name, DType dtype, const Shape& shape) {
  Tensor t;
  t.dtype = dtype;
  t.shape = shape;
  buffers_.emplace_back(std::max<std::size_t>(t.bytes(), 1));
  t.data = buffers_.back().data();
  tensors_.push_back({name, t});
  return t;
}

const ConstTensor& TensorBag::at(const std::string& name) const {
  const auto found = std::ranges::find(tensors_, name, &io::NamedTensor::name);
  require(found != tensors_.end(), "no tensor '{}'", name);
  return found->tensor;
}

void dump(TensorBag& out, const Backend& backend, const Model& m, const io::TensorFiles& inputs,
          DumpGradients gradients) {
  const TokenMatrix ids = read_ids(inputs, "input_ids", m.config.vocabulary_size);
  require(ids.columns >= 2, "{}: 'input_ids' has rows of one token: nothing to predict",
          inputs.path().string());
  const DumpBatch batch(ids);
  dump_logits(out, backend, m, batch, ids);
  dump_steps(out, backend, m, ids.row(0));
  if (inputs.find("prompt") != nullptr) {
    dump_greedy(out, backend, m, read_ids(inputs, "prompt", m.config.vocabulary_size).row(0));
  }
  if (gradients == DumpGradients::no) return;
  Updates updates(backend, m, batch, backend.activation_dtype(m.parameters.tree().embedding.dtype));
  const Tensor losses = out.make("adamw.losses", DType::f32, {kDumpUpdates});
  for (std::int64_t i = 0; i < kDumpUpdates; ++i) {
    losses.as<float>()[i] = static_cast<float>(updates.differentiate());
    if (i == 0) updates.put_gradients(out);
    updates.update(i + 1);
  }
}

}  // namespace braid::eval

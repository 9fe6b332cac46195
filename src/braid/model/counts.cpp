#include "braid/model/counts.h"

#include <algorithm>

#include "braid/model/host_batch.h"

namespace braid::model {
namespace {

// Tokens that a query sees on average over positions 0 … context − 1; the paper takes s/2 for unlimited
// attention.
double average_context(std::int64_t context, std::int64_t window) {
  const auto s = static_cast<double>(context), w = static_cast<double>(window);
  return window == 0 || window >= context ? s / 2 : w - w * w / (2 * s);
}

double attention_macs(const ModelConfig& c, LayerType type, std::int64_t context) {
  const auto& a = c.attention;
  const auto d = static_cast<double>(c.hidden_size), heads = static_cast<double>(a.heads);
  const double wide = heads * static_cast<double>(a.head_dim);
  const double narrow = static_cast<double>(a.kv_heads * a.head_dim);
  const double seen = average_context(context, type == LayerType::sliding_attention ? a.window : 0);
  return 2 * d * (wide + narrow) + 2 * wide * seen +
         2.5 * heads * seen;  // projections, scores and values, softmax
}

double linear_macs(const ModelConfig& c, DeltaForm form) {
  const auto& l = c.linear;
  const auto d = static_cast<double>(c.hidden_size), heads = static_cast<double>(l.value_heads);
  const double k = static_cast<double>(l.key_heads * l.key_dim),
               v = static_cast<double>(l.value_heads * l.value_dim);
  const double projections = d * (2 * k + v + 2 * heads) + (l.output_gate ? d * v : 0) + v * d;
  const double convolution = static_cast<double>(l.convolution_width) * (2 * k + v);
  // With grouped value heads the state work is that of the value heads.
  const double keys = heads * static_cast<double>(l.key_dim);
  const double state = form == DeltaForm::recurrent
                           ? 3 * keys * static_cast<double>(l.value_dim)
                           : static_cast<double>(kFlopChunk) * (3 * keys + 2 * v) + 3 * keys * v / heads;
  return projections + convolution + state;
}

}  // namespace

ParameterCounts count_parameters(const ModelConfig& config) {
  Arena measure = Arena::measuring();
  ParameterCounts n;
  for (const auto& [spec, tensor] : list(make_parameters(config, measure, {}), config)) {
    const auto& name = spec.name;
    const auto has = [&](std::string_view part) { return name.find(part) != std::string::npos; };
    auto& part = has("embed_tokens")  ? (config.tied_embeddings ? n.head : n.embedding)
                 : has("lm_head")     ? n.head
                 : has(".self_attn.") ? n.attention
                 : has("linear_attn") ? n.linear
                 : has(".mlp.")       ? n.mlp
                                      : n.norms;
    part += tensor.count();
  }
  return n;
}

TokenMacs count_macs(const ModelConfig& c, std::int64_t context, DeltaForm form) {
  TokenMacs macs;
  for (const auto type : c.layers) {
    if (type == LayerType::linear_attention) {
      macs.linear += linear_macs(c, form);
    } else {
      macs.attention += attention_macs(c, type, context);
    }
    macs.mlp += 3 * static_cast<double>(c.hidden_size) * static_cast<double>(c.intermediate_size);
  }
  macs.head = static_cast<double>(c.hidden_size) * static_cast<double>(c.vocabulary_size);
  return macs;
}

TrainingBytes measure_training(const Backend& backend, const ModelConfig& config, std::int64_t batch,
                               std::int64_t length, LossOptions options) {
  TrainingBytes bytes;
  Arena parameters = Arena::measuring(), step = Arena::measuring(), scratch = Arena::measuring(),
        rotary = Arena::measuring();
  const Parameters p = make_parameters(config, parameters, {});
  bytes.parameters = bytes.gradients = parameters.peak();
  bytes.optimizer = 2 * bytes.parameters;
  Context ctx = backend.measuring_context(scratch);
  const Policy policy = make_policy(ctx, rotary, config, length, DType::f32);
  const auto n = batch * length;
  Arena inputs = Arena::measuring();
  const auto i32 = [&](std::int64_t count) { return inputs.make(DType::i32, {count}); };
  const Batch b{i32(n), i32(n), {{i32(batch + 1)}, i32(n)}};
  const TokenLosses losses{inputs.make(DType::f32, {n}), inputs.make(DType::f32, {n})};
  loss_and_gradients(ctx, step, losses, p, p, policy, b, options);
  bytes.activations = step.peak() + inputs.peak();
  bytes.scratch = scratch.peak();
  bytes.rotary = rotary.peak();
  return bytes;
}

}  // namespace braid::model

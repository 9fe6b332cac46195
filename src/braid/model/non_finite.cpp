#include "braid/model/non_finite.h"

#include <cmath>
#include <utility>

#include "braid/ops/embedding.h"
#include "braid/ops/rms_norm.h"

namespace braid::model {
namespace {

struct Found {
  std::int64_t index = 0;
  double value = 0;
};

template <class T>
std::optional<Found> first_in(Memory& memory, const ConstTensor& t) {
  const auto values = to_host<T>(memory, t);
  for (std::size_t i = 0; i < values.size(); ++i) {
    double value = 0;
    if constexpr (std::is_same_v<T, double>) {
      value = values[i];
    } else {
      value = static_cast<double>(static_cast<float>(values[i]));
    }
    if (!std::isfinite(value)) return Found{static_cast<std::int64_t>(i), value};
  }
  return std::nullopt;
}

std::optional<Found> first_non_finite(Memory& memory, const ConstTensor& t) {
  switch (t.dtype) {
    case DType::f32:
      return first_in<float>(memory, t);
    case DType::f64:
      return first_in<double>(memory, t);
    case DType::bf16:
      return first_in<BFloat16>(memory, t);
    case DType::f16:
      return first_in<Float16>(memory, t);
    case DType::i32:
    case DType::i64:
    case DType::u8:
      break;
  }
  return std::nullopt;
}

std::string_view text_of(double value) {
  return std::isnan(value) ? "NaN" : value > 0 ? "infinity" : "-infinity";
}

std::optional<std::string> described(Memory& memory, std::string_view what, const NamedParameter& p) {
  const auto found = first_non_finite(memory, p.tensor);
  if (!found) return std::nullopt;
  const auto row = p.spec.shape.count() / p.spec.shape[0];
  const auto at = p.spec.shape.rank == 1
                      ? fmt::format("element {}", found->index)
                      : fmt::format("row {}, column {}", found->index / row, found->index % row);
  return fmt::format("{} {} is not finite ({} at {})", what, p.spec.name, text_of(found->value), at);
}

// Looks at one tensor after another.
struct Search {
  Memory& memory;
  BatchPlace place;
  std::optional<std::string> answer{};

  // True: found here or before. `t` (N, …) may be undefined.
  template <class Name>
  bool in(const ConstTensor& t, Name&& name) {
    if (answer || !t.defined()) return answer.has_value();
    const auto found = first_non_finite(memory, t);
    if (!found) return false;
    const auto row = t.count() / t.shape[0], token = found->index / row;
    answer = fmt::format("{} is the first that is not finite ({} at sequence {}, token {}{})", name(),
                         text_of(found->value), place.first_sequence + token / place.sequence_length,
                         token % place.sequence_length,
                         t.shape.rank == 1 ? "" : fmt::format(", channel {}", found->index % row));
    return true;
  }
};

}  // namespace

std::optional<std::string> non_finite_parameter(Memory& memory,
                                                const std::vector<NamedParameter>& parameters) {
  for (const auto& p : parameters) {
    if (auto text = described(memory, "parameter", p)) return text;
  }
  return std::nullopt;
}

std::optional<std::string> non_finite_gradient(Memory& memory, const std::vector<NamedParameter>& gradients) {
  for (auto g = gradients.rbegin(); g != gradients.rend(); ++g) {
    if (auto text = described(memory, "the first gradient in backward,", *g)) return text;
  }
  return std::nullopt;
}

std::optional<std::string> non_finite_output(Context& ctx, Arena& step, TokenLosses out,
                                             const ModelConfig& config, const Parameters& p,
                                             const Policy& policy, const Batch& batch,
                                             ForwardOptions options) {
  Arena::Scope scope(step);
  Search search{*ctx.memory, options.place};
  Tensor x = step.make(policy.activations, {batch.ids.shape[0], config.hidden_size});
  Tensor y = step.make(x.dtype, x.shape);
  ops::embedding_forward(ctx, x, batch.ids, p.embedding);
  if (search.in(x, [] { return "the embedding of the tokens"; })) return search.answer;
  for (std::size_t i = 0; i < p.blocks.size(); ++i) {
    Arena::Scope block(step);
    // As in training, where a block that keeps nothing runs a second time and keeps everything.
    const auto keep = options.keep.of(i) == nn::Keep::input ? nn::Keep::all : options.keep.of(i);
    const auto s = Block::forward(ctx, {step, keep}, y, x, p.blocks[i], policy.blocks[i], batch.tokens);
    const auto mixer = [&] {
      return fmt::format("the output of layer {} ({})", i, name_of(config.layers[i]));
    };
    const auto mlp = [&] { return fmt::format("the output of layer {} (feed-forward)", i); };
    search.in(s.mixer_norm.y, mixer);
    search.in(s.h, mixer);
    search.in(s.mlp_norm.y, mlp);
    if (search.in(y, mlp)) return search.answer;
    std::swap(x, y);
  }
  const Tensor inverse_rms = step.make(accumulator_of(x.dtype), {x.shape[0]});
  ops::rms_norm_forward(ctx, y, inverse_rms, x, p.final_norm, {.epsilon = policy.norm_epsilon});
  if (search.in(y, [] { return "the output of the final norm"; })) return search.answer;
  score(ctx, step, out, p, policy, batch);
  const auto head = [] { return "the loss over the head's logits"; };
  search.in(out.log_sum_exp, head);
  search.in(out.loss, head);
  return search.answer;
}

}  // namespace braid::model

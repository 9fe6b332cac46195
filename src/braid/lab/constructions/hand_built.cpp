#include "braid/lab/constructions/hand_built.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace braid::lab {
namespace {

constexpr float kRms = 64;  // of a row of the stream in front of a delta-rule layer

bool power_of_four(std::int64_t x) {
  return x > 0 && std::has_single_bit(static_cast<std::uint64_t>(x)) &&
         std::countr_zero(static_cast<std::uint64_t>(x)) % 2 == 0;
}

void fill(const Tensor& t, float value) { std::fill_n(t.as<float>(), t.count(), value); }

}  // namespace

Matrix::Matrix(const Tensor& t, std::int64_t first_row, std::int64_t rows)
    : rows_(rows), columns_(t.shape.rank > 1 ? t.shape[1] : 1) {
  require(first_row >= 0 && rows >= 0 && first_row + rows <= t.shape[0], "rows {} to {} of a tensor {}",
          first_row, first_row + rows, describe(t));
  data_ = t.as<float>() + first_row * columns_;
}

float& Matrix::operator()(std::int64_t row, std::int64_t column) const {
  require(row >= 0 && row < rows_ && column >= 0 && column < columns_, "entry ({}, {}) of a matrix ({}, {})",
          row, column, rows_, columns_);
  return data_[row * columns_ + column];
}

Stream::Stream(std::int64_t active, std::int64_t later) : active_(active) {
  require(power_of_four(active) && later < active, "{} active entries, {} of them later", active, later);
  ballast_ = reserve(active - later);
}

Span Stream::reserve(std::int64_t width) {
  const Span span{used_, width};
  used_ += width;
  return span;
}

std::int64_t Stream::width() const {
  std::int64_t width = 4;
  while (width < used_) width *= 4;
  return width;
}

float Stream::amplitude() const {
  return kRms * std::sqrt(static_cast<float>(width()) / static_cast<float>(active_));
}

HandBuilt::HandBuilt(model::ModelConfig config, const Stream& stream)
    : model_{.config = std::move(config), .parameters = {}}, stream_(stream) {
  model_.config.validate("construction");
  model_.parameters = model::ParameterSet(model_.config, {});
  for (const auto& [spec, tensor] : model::list(model_.parameters.tree(), model_.config)) {
    const bool norm = spec.name.ends_with("norm.weight");
    fill(tensor, norm ? 1.0f : spec.name.ends_with("dt_bias") ? -100.0f : 0.0f);
    if (!spec.name.ends_with("conv1d.weight")) continue;
    const Matrix taps(tensor);
    for (std::int64_t c = 0; c < taps.rows(); ++c) taps(c, tensor.shape[1] - 1) = 1;
  }
  for (std::size_t i = 0; i < model_.config.layers.size(); ++i) {
    if (model_.config.layers[i] == model::LayerType::linear_attention)
      set_mixer_norm(i, kRms / stream.amplitude());
  }
  for (std::int64_t id = 0; id < model_.config.vocabulary_size; ++id) embed(id, {});
}

void HandBuilt::embed(std::int64_t id, const std::vector<Feature>& features) {
  const Matrix rows(model_.parameters.tree().embedding);
  const auto missing = stream_.embedded() - static_cast<std::int64_t>(features.size());
  require(missing >= 0, "token {} has {} features, at most {} fit", id, features.size(), stream_.embedded());
  for (std::int64_t c = 0; c < stream_.width(); ++c) rows(id, c) = 0;
  for (const auto& f : features) {
    require(rows(id, f.coordinate) == 0, "token {} has feature {} twice", id, f.coordinate);
    rows(id, f.coordinate) = f.sign * stream_.amplitude();
  }
  for (std::int64_t i = 0; i < missing; ++i) rows(id, stream_.ballast()[i]) = stream_.amplitude();
}

float& HandBuilt::logit(std::int64_t id, std::int64_t coordinate) {
  return Matrix(model_.parameters.tree().head)(id, coordinate);
}

model::Block::Params& HandBuilt::block(std::size_t layer) {
  // The tree's tensors are views: writing through a copy of them writes the model.
  return const_cast<model::Parameters&>(model_.parameters.tree()).blocks.at(layer);
}

DeltaMatrices HandBuilt::delta(std::size_t layer) {
  const auto& p = std::get<nn::GatedDeltaNet::Params>(block(layer).mixer);
  const auto& l = model_.config.linear;
  const auto keys = l.key_heads * l.key_dim, values = l.value_heads * l.value_dim;
  return {.query = {p.qkv, 0, keys},
          .key = {p.qkv, keys, keys},
          .value = {p.qkv, 2 * keys, values},
          .gate = Matrix(p.gate),
          .decay = {p.ab, 0, l.value_heads},
          .write = {p.ab, l.value_heads, l.value_heads},
          .output = Matrix(p.o)};
}

AttentionMatrices HandBuilt::attention(std::size_t layer) {
  const auto& p = std::get<nn::Attention::Params>(block(layer).mixer);
  return {Matrix(p.q), Matrix(p.k), Matrix(p.v), Matrix(p.o)};
}

MlpMatrices HandBuilt::mlp(std::size_t layer) {
  const auto& p = block(layer).mlp;
  const auto hidden = model_.config.intermediate_size;
  return {{p.gate_up, 0, hidden}, {p.gate_up, hidden, hidden}, Matrix(p.down)};
}

void HandBuilt::sharpen(std::size_t layer, float sharpness) {
  fill(std::get<nn::Attention::Params>(block(layer).mixer).q_norm, sharpness);
}

void HandBuilt::set_mixer_norm(std::size_t layer, float weight) { fill(block(layer).mixer_norm, weight); }

void HandBuilt::look_back(std::size_t layer, std::int64_t first_channel, std::int64_t channels) {
  const auto& convolution = std::get<nn::GatedDeltaNet::Params>(block(layer).mixer).convolution;
  const Matrix taps(convolution);
  const auto last = convolution.shape[1] - 1;
  for (auto c = first_channel; c < first_channel + channels; ++c) taps(c, last) = 0, taps(c, last - 1) = 1;
}

model::Model HandBuilt::take() && { return std::move(model_); }

void add_squares(const MlpMatrices& mlp, std::int64_t unit, Span to, Span from, float strength) {
  for (std::int64_t i = 0; i < from.width; ++i) {
    for (const float sign : {1.0f, -1.0f}) {
      mlp.gate(unit, from[i]) = sign;
      mlp.up(unit, from[i]) = sign;
      mlp.down(to[i], unit) = strength;
      ++unit;
    }
  }
}

model::ModelConfig stack_config(std::int64_t vocabulary, std::int64_t width,
                                std::vector<model::LayerType> layers, std::int64_t hidden,
                                std::int64_t longest) {
  model::ModelConfig c;
  c.vocabulary_size = vocabulary;
  c.hidden_size = width;
  c.intermediate_size = hidden;
  c.layers = std::move(layers);
  c.attention.rope_full = c.attention.rope_sliding = {.type = model::RopeType::none};
  c.max_positions = longest;
  return c;
}

}  // namespace braid::lab

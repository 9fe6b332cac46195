// Weights set by hand, one number at a time, into the ordinary parameter tree.
//
// Every construction keeps one rule, which makes its arithmetic exact: in front of a delta-rule layer each
// token's row of the residual stream has exactly `active` nonzero entries, all of them ± the same power of
// two, and both `active` and the width are powers of four. Then the RMS norm divides by a power of two, the
// layer reads features that are exactly 0, 1 or -1, and what follows are sums of small integers.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "braid/model/weights.h"

namespace braid::lab {

// Rows of a parameter tensor, f32 in host memory.
class Matrix {
 public:
  Matrix() = default;
  explicit Matrix(const Tensor& t) : Matrix(t, 0, t.shape[0]) {}
  Matrix(const Tensor& t, std::int64_t first_row, std::int64_t rows);
  float& operator()(std::int64_t row, std::int64_t column) const;
  std::int64_t rows() const { return rows_; }

 private:
  float* data_ = nullptr;
  std::int64_t rows_ = 0, columns_ = 0;
};

// Coordinates [begin, begin + width) of the residual stream.
struct Span {
  std::int64_t begin = 0, width = 0;
  std::int64_t operator[](std::int64_t i) const { return begin + i; }
};

// The residual stream's layout: what lies where, and how large an entry is.
class Stream {
 public:
  // `active`: nonzero entries of every token in front of a delta-rule layer, a power of four. All but `later`
  // of them are in the embedding; attention adds the others.
  explicit Stream(std::int64_t active, std::int64_t later = 0);
  Span reserve(std::int64_t width);
  // The model's width: all that is reserved and the ballast, rounded up to a power of four.
  std::int64_t width() const;
  std::int64_t embedded() const { return ballast_.width; }
  // An entry's size: the RMS of a row is then 64, far above what the norm's epsilon could move.
  float amplitude() const;
  // What fills an embedding up to that number of entries.
  Span ballast() const { return ballast_; }

 private:
  std::int64_t active_, used_ = 0;
  Span ballast_;
};

// A feature of a token: an entry of its embedding, +1 or -1 times the amplitude.
struct Feature {
  std::int64_t coordinate;
  float sign = 1;
};

// The matrices of one layer, (rows out, columns in). Head h of a delta-rule layer has rows h · key_dim … of
// query and key, h · value_dim … of value and gate, row h of decay and write.
struct DeltaMatrices {
  Matrix query, key, value, gate, decay, write, output;
};
struct AttentionMatrices {
  Matrix query, key, value, output;
};
struct MlpMatrices {
  Matrix gate, up, down;
};

// A model of zeros to set weights in. What is not zero from the start: norms (1), the convolutions (the token
// itself alone), and dt_bias, so low that nothing ever decays.
class HandBuilt {
 public:
  HandBuilt(model::ModelConfig config, const Stream& stream);

  // The embedding of token `id`: its features, and ballast. Without this call a token is all ballast.
  void embed(std::int64_t id, const std::vector<Feature>& features);
  // logit of token `id` += weight · stream[coordinate]
  float& logit(std::int64_t id, std::int64_t coordinate);

  // After its norm a delta-rule layer in front of which the rule holds reads 0, 1 and -1.
  DeltaMatrices delta(std::size_t layer);
  AttentionMatrices attention(std::size_t layer);
  MlpMatrices mlp(std::size_t layer);
  // Scores are multiplied by `sharpness`: the larger, the harder the attention.
  void sharpen(std::size_t layer, float sharpness);
  // The weight of the norm on what the layer's mixer puts out (attention) or reads (delta rule).
  void set_mixer_norm(std::size_t layer, float weight);
  // These channels of a delta-rule layer's convolution read the token before. Channels are the rows of query,
  // key and value, in this order: row `first` of key is channel key_heads · key_dim + first.
  void look_back(std::size_t layer, std::int64_t first_channel, std::int64_t channels);

  model::Model take() &&;

 private:
  model::Block::Params& block(std::size_t layer);

  model::Model model_;
  Stream stream_;
};

// Weights of a feed-forward sublayer that squares: stream[to + i] += strength · (norm of stream)[from + i]²,
// by silu(x) x + silu(-x) (-x) = x². Takes 2 · width hidden units from `unit` on.
void add_squares(const MlpMatrices& mlp, std::int64_t unit, Span to, Span from, float strength);

// A layer stack of this width, with the norms where the published hybrid has them: before a delta-rule layer,
// on the output of attention. No positions are encoded.
model::ModelConfig stack_config(std::int64_t vocabulary, std::int64_t width,
                                std::vector<model::LayerType> layers, std::int64_t hidden,
                                std::int64_t longest);

}  // namespace braid::lab

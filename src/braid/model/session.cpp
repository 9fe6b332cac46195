#include "braid/model/session.h"

#include <algorithm>

#include "braid/nn/linear.h"
#include "braid/ops/embedding.h"
#include "braid/ops/rms_norm.h"

namespace braid::model {

// One extend() as flat arrays.
struct Session::Call {
  std::vector<std::int32_t> ids, positions, offsets{0}, logit_tokens;
  std::int64_t longest = 0;  // of the segments
  std::int64_t cached = 0;   // tokens that some sequence has before the call, at most
};

// The same in the backend's memory.
struct Session::Inputs {
  nn::Attention::Tokens tokens;
  ConstTensor ids, lengths, picks;
  std::int64_t cached;
};

Session::Session(const Backend& backend, const ModelConfig& config, const Parameters& parameters,
                 SessionOptions options)
    : backend_(backend),
      config_(config),
      parameters_(parameters),
      options_(options),
      activations_(backend.activation_dtype(parameters.embedding.dtype)) {
  if (options_.capacity == 0) options_.capacity = config.max_positions;
  if (options_.max_tokens == 0) options_.max_tokens = 512;
  require(options_.sequences >= 1 && options_.capacity >= 1 && options_.max_tokens >= 1,
          "session: sequences {}, capacity {} and max_tokens {} must be positive", options_.sequences,
          options_.capacity, options_.max_tokens);
  options_.max_tokens = std::max(options_.max_tokens, options_.sequences);
  lengths_.assign(static_cast<std::size_t>(options_.sequences), 0);

  Arena measure = Arena::measuring(), scratch = Arena::measuring();
  Context dry = backend.measuring_context(scratch);
  policy_ = make_policy(dry, measure, config, options_.capacity, activations_);
  policy_buffer_ = Buffer(measure.peak(), backend.memory);
  Arena states = Arena::measuring();
  make_states(states);
  state_buffer_ = Buffer(states.peak(), backend.memory);

  std::size_t work_bytes = 0;
  const auto plan = [&](const Call& call) {
    Arena work = Arena::measuring();
    run(dry, work, upload_inputs(dry, work, call));
    work_bytes = std::max(work_bytes, work.peak());
  };
  // A prompt's first tokens, those that follow, and one token each may be computed in different ways.
  plan(largest_call(options_.max_tokens, 0));
  plan(largest_call(options_.max_tokens, 1));
  plan(largest_call(1, 1));
  work_buffer_ = Buffer(work_bytes, backend.memory);
  scratch_buffer_ = Buffer(scratch.peak(), backend.memory);

  Arena policy_arena(policy_buffer_), state_arena(state_buffer_), scratch_arena(scratch_buffer_);
  Context ctx = backend.context(scratch_arena);
  policy_ = make_policy(ctx, policy_arena, config, options_.capacity, activations_);
  make_states(state_arena);
}

// Every sequence gets tokens, one of them `longest`, logits for all.
Session::Call Session::largest_call(std::int64_t longest, std::int64_t cached) const {
  Call call;
  call.ids.assign(static_cast<std::size_t>(longest == 1 ? options_.sequences : options_.max_tokens), 0);
  call.positions = call.logit_tokens = call.ids;
  call.offsets.assign(static_cast<std::size_t>(options_.sequences) + 1, 0);
  call.longest = longest;
  call.cached = cached;
  return call;
}

void Session::make_states(Arena& arena) {
  states_.clear();
  const auto s = options_.sequences;
  const auto dtype = activations_;
  for (const auto type : config_.layers) {
    if (type == LayerType::linear_attention) {
      const auto& l = config_.linear;
      const auto channels = 2 * l.key_heads * l.key_dim + l.value_heads * l.value_dim;
      states_.emplace_back(nn::GatedDeltaNet::State{
          .convolution = arena.make(dtype, {s, l.convolution_width - 1, channels}),
          .delta = arena.make(accumulator_of(dtype), {s, l.value_heads, l.key_dim, l.value_dim})});
      continue;
    }
    const auto& a = config_.attention;
    // A window needs only what is still visible while the longest call appends.
    const bool windowed = type == LayerType::sliding_attention;
    const auto visible =
        windowed ? std::min(options_.capacity, a.window + options_.max_tokens - 1) : options_.capacity;
    const Shape shape{s, visible, a.kv_heads, a.head_dim};
    states_.emplace_back(nn::Attention::State{{arena.make(dtype, shape), arena.make(dtype, shape)}, {}});
  }
}

Session::Call Session::prepare(const std::vector<std::vector<std::int32_t>>& tokens, LogitRows rows) const {
  require(static_cast<std::int64_t>(tokens.size()) == options_.sequences,
          "session: got tokens for {} sequences, it was made for {}", tokens.size(), options_.sequences);
  Call call;
  call.cached = *std::ranges::max_element(lengths_);
  for (std::size_t s = 0; s < tokens.size(); ++s) {
    const auto total = lengths_[s] + static_cast<std::int64_t>(tokens[s].size());
    require(total <= options_.capacity, "session: sequence {} would reach {} tokens, its capacity is {}", s,
            total, options_.capacity);
    for (std::size_t i = 0; i < tokens[s].size(); ++i) {
      const auto id = tokens[s][i];
      require(id >= 0 && id < config_.vocabulary_size,
              "session: token id {} of sequence {} is outside [0, {})", id, s, config_.vocabulary_size);
      call.ids.push_back(id);
      call.positions.push_back(lengths_[s] + static_cast<std::int32_t>(i));
      if (rows == LogitRows::all || (rows == LogitRows::last && i + 1 == tokens[s].size())) {
        call.logit_tokens.push_back(static_cast<std::int32_t>(call.ids.size()) - 1);
      }
    }
    call.offsets.push_back(static_cast<std::int32_t>(call.ids.size()));
    call.longest = std::max(call.longest, static_cast<std::int64_t>(tokens[s].size()));
  }
  require(!call.ids.empty(), "session: no tokens given");
  require(static_cast<std::int64_t>(call.ids.size()) <= options_.max_tokens,
          "session: {} tokens in one call, at most {} fit: feed them in parts", call.ids.size(),
          options_.max_tokens);
  return call;
}

Session::Inputs Session::upload_inputs(const Context& ctx, Arena& work, const Call& call) const {
  const auto [offsets, positions, ids, lengths, picks] =
      upload_together(ctx, work, call.offsets, call.positions, call.ids, lengths_, call.logit_tokens);
  return {.tokens = {{offsets, call.longest}, positions},
          .ids = ids,
          .lengths = lengths,
          .picks = picks,
          .cached = call.cached};
}

ConstTensor Session::run(Context& ctx, Arena& work, const Inputs& in) {
  const auto n = in.ids.shape[0], rows = in.picks.shape[0];
  const auto dtype = activations_;
  const Shape shape{n, config_.hidden_size};
  Tensor x = work.make(dtype, shape), y = work.make(dtype, shape);
  ops::embedding_forward(ctx, x, in.ids, parameters_.embedding);
  for (std::size_t i = 0; i < states_.size(); ++i) {
    if (auto* attention = std::get_if<nn::Attention::State>(&states_[i])) {
      attention->lengths = in.lengths;
      attention->cache.longest = in.cached;
    }
    Block::step(ctx, y, x, parameters_.blocks[i], policy_.blocks[i], in.tokens, states_[i]);
    std::swap(x, y);
  }
  if (rows == 0) return {};
  // Gather the rows that want logits: an embedding lookup in the hidden states.
  const Tensor picked = work.make(dtype, {rows, config_.hidden_size});
  const Tensor normed = work.make(dtype, picked.shape),
               inverse_rms = work.make(accumulator_of(dtype), {rows});
  const Tensor logits = work.make(accumulator_of(dtype), {rows, config_.vocabulary_size});
  ops::embedding_forward(ctx, picked, in.picks, x);
  ops::rms_norm_forward(ctx, normed, inverse_rms, picked, parameters_.final_norm,
                        {.epsilon = policy_.norm_epsilon});
  nn::linear(ctx, logits, normed, parameters_.output_head());
  return logits;
}

ConstTensor Session::extend(const std::vector<std::vector<std::int32_t>>& tokens, LogitRows rows) {
  const ConstTensor logits = extend_in_place(tokens, rows);
  return logits.defined() ? on_host(logits) : logits;
}

ConstTensor Session::extend_in_place(const std::vector<std::vector<std::int32_t>>& tokens, LogitRows rows) {
  // Recorded work is one for all calls, so that the head is part of it.
  const Call call = prepare(tokens, rows == LogitRows::none && backend_.record ? LogitRows::last : rows);
  Arena work(work_buffer_), scratch(scratch_buffer_);
  Context ctx = backend_.context(scratch);
  const Inputs inputs = upload_inputs(ctx, work, call);
  ctx.fetch = Fetch::ahead;  // whoever changes weights does so before this upload
  const bool one_each = call.longest == 1 && static_cast<std::int64_t>(call.ids.size()) == options_.sequences;
  const ConstTensor logits = one_each ? decode(ctx, work, inputs) : run(ctx, work, inputs);
  for (std::size_t s = 0; s < tokens.size(); ++s) lengths_[s] += static_cast<std::int32_t>(tokens[s].size());
  return rows == LogitRows::none ? ConstTensor{} : logits;
}

// The inputs of one token each always lie at the same addresses.
ConstTensor Session::decode(Context& ctx, Arena& work, const Inputs& inputs) {
  decode_.run(backend_, [&] { decode_logits_ = run(ctx, work, inputs); });
  return decode_logits_;
}

ConstTensor Session::on_host(const ConstTensor& logits) {
  if (logits.device == Device::cpu) return logits;
  if (logits_buffer_.bytes() < logits.bytes()) logits_buffer_ = Buffer(logits.bytes());
  ConstTensor host = logits;
  host.device = Device::cpu;
  host.data = logits_buffer_.data();
  backend_.memory->read(logits_buffer_.data(), logits.data, logits.bytes());
  return host;
}

void Session::check_sequence(std::int64_t sequence) const {
  require(sequence >= 0 && sequence < options_.sequences, "session: there is no sequence {}, only {}",
          sequence, options_.sequences);
}

std::vector<Tensor> Session::parts(std::int64_t sequence, std::int64_t length) const {
  std::vector<Tensor> all;
  const auto row = [&](const Tensor& t) {
    if (t.count() != 0) all.push_back(rows_of(t, sequence, 1));
  };
  for (const auto& state : states_) {
    if (const auto* linear = std::get_if<nn::GatedDeltaNet::State>(&state)) {
      row(linear->convolution);
      row(linear->delta);
      continue;
    }
    for (const Tensor& t :
         {std::get<nn::Attention::State>(state).cache.k, std::get<nn::Attention::State>(state).cache.v}) {
      // A cache that has wrapped round is in use to its end.
      const Tensor mine = rows_of(t, sequence, 1);
      const Tensor slots = reshaped(mine, {t.shape[1], t.shape[2], t.shape[3]});
      all.push_back(rows_of(slots, 0, std::min(length, t.shape[1])));
    }
  }
  return all;
}

void Session::reset(std::int64_t sequence) {
  check_sequence(sequence);
  lengths_[static_cast<std::size_t>(sequence)] = 0;
  // Of length 0: recurrent states only; keys and values beyond the length never count.
  for (const Tensor& t : parts(sequence, 0)) {
    backend_.memory->zero(t.mutable_data(), t.bytes());
  }
}

Snapshot Session::snapshot(std::int64_t sequence) const {
  check_sequence(sequence);
  Snapshot s;
  s.length_ = lengths_[static_cast<std::size_t>(sequence)];
  for (const Tensor& t : parts(sequence, s.length_)) {
    auto& bytes = s.parts_.emplace_back(t.bytes());
    backend_.memory->read(bytes.data(), t.data, t.bytes());
  }
  return s;
}

void Session::restore(std::int64_t sequence, const Snapshot& snapshot) {
  check_sequence(sequence);
  require(snapshot.length_ <= options_.capacity, "session: the snapshot has {} tokens, the capacity is {}",
          snapshot.length_, options_.capacity);
  const auto targets = parts(sequence, snapshot.length_);
  bool same = targets.size() == snapshot.parts_.size();
  for (std::size_t i = 0; same && i < targets.size(); ++i)
    same = targets[i].bytes() == snapshot.parts_[i].size();
  require(same, "session: the snapshot comes from another model or other session options");
  for (std::size_t i = 0; i < targets.size(); ++i) {
    backend_.memory->write(targets[i].mutable_data(), snapshot.parts_[i].data(), snapshot.parts_[i].size());
  }
  lengths_[static_cast<std::size_t>(sequence)] = snapshot.length_;
}

std::size_t Snapshot::bytes() const {
  std::size_t total = 0;
  for (const auto& part : parts_) total += part.size();
  return total;
}

StateBytes state_bytes(const ModelConfig& c, LayerType type, std::int64_t length, DType cache) {
  const auto element = static_cast<std::int64_t>(size_of(cache));
  if (type == LayerType::linear_attention) {
    const auto& l = c.linear;
    const auto channels = 2 * l.key_heads * l.key_dim + l.value_heads * l.value_dim;
    return {.keys_values = 0,
            .delta = 4 * l.value_heads * l.key_dim * l.value_dim,
            .convolution = element * (l.convolution_width - 1) * channels};
  }
  const auto visible = type == LayerType::sliding_attention ? std::min(length, c.attention.window) : length;
  return {.keys_values = 2 * element * visible * c.attention.kv_heads * c.attention.head_dim};
}

}  // namespace braid::model

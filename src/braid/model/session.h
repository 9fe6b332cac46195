// Sequences in progress: per-layer state that never outlives or crosses its sequence, advanced by any number
// of tokens at a time. Prefill, chunked prefill and decode are the same call.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "braid/model/host_batch.h"
#include "braid/ops/backend.h"

namespace braid::model {

struct SessionOptions {
  std::int64_t sequences = 1;
  std::int64_t capacity = 0;    // tokens that a sequence may reach; 0: the model's max_positions
  std::int64_t max_tokens = 0;  // tokens per call over all sequences, and per sequence; 0: 512
};

// Everything that one sequence has behind it: restoring it rolls back drafted tokens, or starts another
// sequence from a shared prefix. A recurrent state is valid at one position only, so the copy is whole.
class Snapshot {
 public:
  std::int64_t length() const { return length_; }
  std::size_t bytes() const;

 private:
  friend class Session;
  std::int32_t length_ = 0;
  std::vector<std::vector<std::byte>> parts_;  // in the order of Session::parts()
};

enum class LogitRows : std::uint8_t { none, last, all };

class Session {
 public:
  // `parameters` and `config` must outlive the session.
  Session(const Backend& backend, const ModelConfig& config, const Parameters& parameters,
          SessionOptions options);

  // Appends tokens[s] to sequence s (possibly none) and returns logits (rows, V), f32 (f64) in host memory,
  // valid until the next call: the last token of each sequence that got tokens, in order; or every token; or
  // none, and nothing is returned.
  ConstTensor extend(const std::vector<std::vector<std::int32_t>>& tokens, LogitRows rows = LogitRows::last);
  // The same, but the logits stay in the backend's memory.
  ConstTensor extend_in_place(const std::vector<std::vector<std::int32_t>>& tokens,
                              LogitRows rows = LogitRows::last);
  // Empties sequence s: its caches and states are as if it had never been used.
  void reset(std::int64_t sequence);

  Snapshot snapshot(std::int64_t sequence) const;
  // The snapshot may come from any sequence of a session with the same model and options.
  void restore(std::int64_t sequence, const Snapshot& snapshot);

  std::int64_t length(std::int64_t sequence) const { return lengths_[static_cast<std::size_t>(sequence)]; }
  std::int64_t max_tokens() const { return options_.max_tokens; }
  std::size_t state_bytes() const { return state_buffer_.bytes(); }

 private:
  struct Call;
  struct Inputs;
  void make_states(Arena& arena);
  Inputs upload_inputs(const Context& ctx, Arena& work, const Call& call) const;
  ConstTensor run(Context& ctx, Arena& work, const Inputs& inputs);
  ConstTensor decode(Context& ctx, Arena& work, const Inputs& inputs);
  ConstTensor on_host(const ConstTensor& logits);
  // The memory that holds the first `length` tokens of a sequence.
  std::vector<Tensor> parts(std::int64_t sequence, std::int64_t length) const;
  void check_sequence(std::int64_t sequence) const;
  Call largest_call(std::int64_t longest, std::int64_t cached) const;
  Call prepare(const std::vector<std::vector<std::int32_t>>& tokens, LogitRows rows) const;

  const Backend& backend_;
  const ModelConfig& config_;
  const Parameters& parameters_;
  SessionOptions options_;
  DType activations_;
  Buffer policy_buffer_, state_buffer_, work_buffer_, scratch_buffer_, logits_buffer_;
  Policy policy_;
  std::vector<Block::State> states_;
  std::vector<std::int32_t> lengths_;
  // One token for every sequence.
  RepeatedWork decode_;
  ConstTensor decode_logits_;
};

// Bytes of state that one sequence of `length` tokens needs in a layer of this type, by part.
struct StateBytes {
  std::int64_t keys_values = 0, delta = 0, convolution = 0;
  std::int64_t total() const { return keys_values + delta + convolution; }
};
StateBytes state_bytes(const ModelConfig& config, LayerType type, std::int64_t length, DType cache);

}  // namespace braid::model

#include "braid/train/checkpoint_config.h"

#include "braid/train/fields.h"

namespace braid::train {

CheckpointConfig read_checkpoint_config(const io::TomlFields& f) {
  CheckpointConfig c;
  c.every = f.integer_or("every", c.every, 0, kMaxCount);
  c.ephemeral_every = f.integer_or("ephemeral_every", c.ephemeral_every, 0, kMaxCount);
  c.keep = f.integer_or("keep", c.keep, 0, kMaxCount);
  c.max_shard_bytes = static_cast<std::size_t>(
      f.integer_or("max_shard_bytes", static_cast<std::int64_t>(c.max_shard_bytes), 1, kMaxCount));
  if (!f.boolean_or("asynchronous", true)) c.writing = CheckpointWriting::waited_for;
  c.on_error = choose<CheckpointFailure>(
      f, "on_error", "continue",
      {{"continue", CheckpointFailure::continues}, {"stop", CheckpointFailure::stops}});
  return c;
}

}  // namespace braid::train

// The [checkpoint] table of a recipe.
#pragma once
#include <cstdint>

#include "braid/io/toml.h"

namespace braid::train {

enum class CheckpointWriting : std::uint8_t {
  waited_for,
  asynchronous,  // copied to host memory, written by another thread while training goes on
};

// What a run does whose checkpoint could not be written.
enum class CheckpointFailure : std::uint8_t {
  continues,  // says so, keeps the one before, tries again at the next interval
  stops,
};

struct CheckpointConfig {
  std::int64_t every = 0;            // steps between permanent ones; 0: only at the end
  std::int64_t ephemeral_every = 0;  // steps between those of which only the newest is kept; 0: none
  std::int64_t keep = 2;             // permanent ones; 0: all
  std::size_t max_shard_bytes = std::size_t{5} << 30;  // of one file
  CheckpointWriting writing = CheckpointWriting::asynchronous;
  CheckpointFailure on_error = CheckpointFailure::continues;
};

CheckpointConfig read_checkpoint_config(const io::TomlFields& table);

}  // namespace braid::train

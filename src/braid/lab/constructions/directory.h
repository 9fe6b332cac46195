// Constructions on disk: an ordinary model directory, and construction.json, which says what it is.
#pragma once
#include "braid/io/files.h"
#include "braid/lab/constructions/construction.h"

namespace braid::lab {

// Writes the model of size n, f32, as `braid convert` would; `folder` must be new or empty.
void save_construction(const io::fs::path& folder, const Construction& construction, std::int64_t n);

struct SavedConstruction {
  const Construction* construction;
  std::int64_t n;
};
// Reads construction.json of a folder; errors name file and field.
SavedConstruction read_construction(const io::fs::path& folder);

// A copy in another kind of memory, its large matrices in another dtype.
model::Model converted(const model::Model& model, model::ParameterTypes types,
                       std::shared_ptr<Memory> memory = host_memory());

}  // namespace braid::lab

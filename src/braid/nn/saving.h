// What a layer keeps of its forward for its backward. Dropped tensors are made again in backward by the same
// calls on the same inputs, so that the gradients have the same bits.
#pragma once
#include <utility>
#include <vector>

#include "braid/core/context.h"

namespace braid::nn {

// How much is kept, each level more than the one before.
enum class Keep : std::uint8_t {
  input,     // of the block, nothing else: its whole forward runs again
  products,  // outputs of matrix products and of attention, which cost most to compute again
  mixers,    // also those of the delta rule, with its checkpoints
  all,
};

// Where the tensors of one `Saved` come from: an arena for what is kept, ctx.scratch for what is not.
class Saving {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): an arena alone keeps everything in it
  Saving(Arena& kept, Keep keep = Keep::all) : kept_(&kept), keep_(keep) {}
  // For a layer inside: what is dropped here stays this one's to drop.
  Saving(const Saving& outer) : kept_(outer.kept_), keep_(outer.keep_) {}
  Saving& operator=(const Saving&) = delete;

  // Makes `t` where it is not there yet; `from` is the lowest level that keeps it. True: it was made just
  // now, so its values have to be computed.
  bool make(Context& ctx, Tensor& t, Keep from, DType dtype, const Shape& shape) {
    if (t.defined()) return false;
    const bool kept = keep_ >= from;
    t = (kept ? *kept_ : *ctx.scratch).make(dtype, shape);
    if (!kept) dropped_.push_back(&t);
    return true;
  }
  // Undefines what lies in scratch, at the end of forward.
  void drop() {
    for (Tensor* t : std::exchange(dropped_, {})) *t = {};
  }

 private:
  Arena* kept_;
  Keep keep_;
  std::vector<Tensor*> dropped_;
};

}  // namespace braid::nn

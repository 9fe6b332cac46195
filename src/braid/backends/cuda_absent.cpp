#include "braid/backends/backends.h"

namespace braid::cuda {

bool available() { return false; }
Backend make_backend() { fail("this braid was built without CUDA: build it where nvcc is found"); }

}  // namespace braid::cuda

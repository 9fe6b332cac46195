// A store that stays one instruction: the compiler may split the assignment of a struct that was filled
// element by element, which costs a memory-bound kernel as much as narrow stores do.
#pragma once
#include <cstring>

#include "braid/backends/cuda/device/elements.cuh"

namespace braid::cuda {

// For memory that this launch does not read back: no later load waits for it.
template <int kN, class T>
__device__ __forceinline__ void store_whole(T* to, const Elements<T, kN>& elements) {
  unsigned words[4];
  if constexpr (sizeof(elements) == 16) {
    memcpy(words, &elements, sizeof(elements));
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
                 "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3]));
  } else if constexpr (sizeof(elements) == 8) {
    memcpy(words, &elements, sizeof(elements));
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(words[0]),
                 "r"(words[1]));
  } else {
    store<kN>(to, elements);
  }
}
}  // namespace braid::cuda

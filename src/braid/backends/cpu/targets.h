// The SIMD targets that every kernel is compiled for; include before any Highway header.
#pragma once
// Plain C++ (SCALAR), AVX2 and AVX-512 (AVX3) cover the machines in use; each further target is compile time.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#include <hwy/targets.h>

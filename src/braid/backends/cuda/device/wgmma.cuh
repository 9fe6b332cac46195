// Products of a warpgroup (four neighbouring warps, 64 rows), one function per instruction: the left operand
// comes from registers, the right one from shared memory, and they run on while the warps do other things.
// Warp w has rows 16 w to 16 w + 15; fragments of these 16 rows are those of tensor_core.cuh. The
// instructions are PTX's wgmma.mma_async; layouts of shared memory are its "canonical" ones.
#pragma once
#include "braid/backends/cuda/device/tensor_core.cuh"

namespace braid::cuda {

// Rows of 128 or 64 bytes, whose 16-byte packets are permuted over 8 rows as the tensor copy engine does it.
enum class RowSwizzle : std::uint64_t { bytes128 = 1, bytes64 = 2 };

// A matrix in shared memory as slabs of rows, each row one swizzled line, eight rows to `group` bytes.
// Columns beyond a line go on in the next slab, `slab` bytes further (read only where lines run along n).
__device__ __forceinline__ std::uint64_t matrix_descriptor(SharedAddress address, int slab, int group,
                                                           RowSwizzle swizzle) {
  return std::uint64_t{(address >> 4) & 0x3fffU} | static_cast<std::uint64_t>(slab >> 4) << 16 |
         static_cast<std::uint64_t>(group >> 4) << 32 | static_cast<std::uint64_t>(swizzle) << 62;
}

// Which index of b (k, n) runs along the lines in shared memory.
enum class Lines : int { along_k = 0, along_n = 1 };

// Keeps the compiler from moving reads and writes of registers across this point: it knows nothing of
// products that are still under way.
template <int kTiles>
__device__ __forceinline__ void pin(float (&x)[kTiles][4]) {
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    asm volatile("" : "+f"(x[i][0]), "+f"(x[i][1]), "+f"(x[i][2]), "+f"(x[i][3])::"memory");
  }
}
template <int kSteps>
__device__ __forceinline__ void pin(std::uint32_t (&x)[kSteps][4]) {
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    asm volatile("" : "+r"(x[i][0]), "+r"(x[i][1]), "+r"(x[i][2]), "+r"(x[i][3])::"memory");
  }
}

// Before products that take registers which other instructions wrote.
template <class... Registers>
__device__ __forceinline__ void begin_products(Registers&... registers) {
  (pin(registers), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most kPending of the groups committed last are under way; `registers` may then be read.
template <int kPending, class... Registers>
__device__ __forceinline__ void wait_for_products(Registers&... registers) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
  (pin(registers), ...);
}

// Eight accumulators as operands of an instruction: a function cannot expand to these.
#define BRAID_TILES_2(d, i)                                                                         \
  "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3]), "+f"(d[i + 1][0]), "+f"(d[i + 1][1]), \
      "+f"(d[i + 1][2]), "+f"(d[i + 1][3])

// d (64, n) = [d +] a (64, 16) b (16, n), n = 8 times the number of tiles.
template <Lines kLines, bool kAdd>
__device__ __forceinline__ void multiply_async(PackedBf16, float (&d)[8][4], const std::uint32_t (&a)[4],
                                               std::uint64_t b) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %38, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
      "%27,%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, p, 1, 1, %37;}"
      : BRAID_TILES_2(d, 0), BRAID_TILES_2(d, 2), BRAID_TILES_2(d, 4), BRAID_TILES_2(d, 6)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(static_cast<int>(kLines)), "n"(int{kAdd}));
}
template <Lines kLines, bool kAdd>
__device__ __forceinline__ void multiply_async(PackedHalf, float (&d)[8][4], const std::uint32_t (&a)[4],
                                               std::uint64_t b) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %38, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
      "%27,%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, p, 1, 1, %37;}"
      : BRAID_TILES_2(d, 0), BRAID_TILES_2(d, 2), BRAID_TILES_2(d, 4), BRAID_TILES_2(d, 6)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(static_cast<int>(kLines)), "n"(int{kAdd}));
}
template <Lines kLines, bool kAdd>
__device__ __forceinline__ void multiply_async(PackedBf16, float (&d)[12][4], const std::uint32_t (&a)[4],
                                               std::uint64_t b) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %54, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
      "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47}, "
      "{%48,%49,%50,%51}, %52, p, 1, 1, %53;}"
      : BRAID_TILES_2(d, 0), BRAID_TILES_2(d, 2), BRAID_TILES_2(d, 4), BRAID_TILES_2(d, 6),
        BRAID_TILES_2(d, 8), BRAID_TILES_2(d, 10)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(static_cast<int>(kLines)), "n"(int{kAdd}));
}
template <Lines kLines, bool kAdd>
__device__ __forceinline__ void multiply_async(PackedHalf, float (&d)[12][4], const std::uint32_t (&a)[4],
                                               std::uint64_t b) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %54, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
      "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47}, "
      "{%48,%49,%50,%51}, %52, p, 1, 1, %53;}"
      : BRAID_TILES_2(d, 0), BRAID_TILES_2(d, 2), BRAID_TILES_2(d, 4), BRAID_TILES_2(d, 6),
        BRAID_TILES_2(d, 8), BRAID_TILES_2(d, 10)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(static_cast<int>(kLines)), "n"(int{kAdd}));
}
template <Lines kLines, bool kAdd>
__device__ __forceinline__ void multiply_async(PackedBf16, float (&d)[16][4], const std::uint32_t (&a)[4],
                                               std::uint64_t b) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %70, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
      "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,"
      "%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, {%64,%65,%66,%67}, %68, p, 1, 1, %69;}"
      : BRAID_TILES_2(d, 0), BRAID_TILES_2(d, 2), BRAID_TILES_2(d, 4), BRAID_TILES_2(d, 6),
        BRAID_TILES_2(d, 8), BRAID_TILES_2(d, 10), BRAID_TILES_2(d, 12), BRAID_TILES_2(d, 14)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(static_cast<int>(kLines)), "n"(int{kAdd}));
}
template <Lines kLines, bool kAdd>
__device__ __forceinline__ void multiply_async(PackedHalf, float (&d)[16][4], const std::uint32_t (&a)[4],
                                               std::uint64_t b) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %70, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
      "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,"
      "%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, {%64,%65,%66,%67}, %68, p, 1, 1, %69;}"
      : BRAID_TILES_2(d, 0), BRAID_TILES_2(d, 2), BRAID_TILES_2(d, 4), BRAID_TILES_2(d, 6),
        BRAID_TILES_2(d, 8), BRAID_TILES_2(d, 10), BRAID_TILES_2(d, 12), BRAID_TILES_2(d, 14)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(static_cast<int>(kLines)), "n"(int{kAdd}));
}
#undef BRAID_TILES_2

}  // namespace braid::cuda

// Products of a warpgroup (four neighbouring warps, 64 rows), one function per instruction: the left operand
// comes from registers or shared memory, the right one from shared memory, and they run on while the warps do
// other things.
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

// Accumulators as operands of an instruction, and its text for n = 8 times their tiles: a function cannot
// expand to these.
#define BRAID_TILES_4(d, i)                                                                          \
  "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3]), "+f"(d[i + 1][0]), "+f"(d[i + 1][1]),  \
      "+f"(d[i + 1][2]), "+f"(d[i + 1][3]), "+f"(d[i + 2][0]), "+f"(d[i + 2][1]), "+f"(d[i + 2][2]), \
      "+f"(d[i + 2][3]), "+f"(d[i + 3][0]), "+f"(d[i + 3][1]), "+f"(d[i + 3][2]), "+f"(d[i + 3][3])
#define BRAID_TILES_8(d, i) BRAID_TILES_4(d, i), BRAID_TILES_4(d, i + 4)
#define BRAID_TILES_12(d, i) BRAID_TILES_8(d, i), BRAID_TILES_4(d, i + 8)
#define BRAID_TILES_16(d, i) BRAID_TILES_8(d, i), BRAID_TILES_8(d, i + 8)
#define BRAID_TILES_32(d, i) BRAID_TILES_16(d, i), BRAID_TILES_16(d, i + 16)
#define BRAID_NAMES_4 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define BRAID_NAMES_8 BRAID_NAMES_4 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define BRAID_NAMES_12 BRAID_NAMES_8 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define BRAID_NAMES_16 BRAID_NAMES_12 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define BRAID_NAMES_32                                                           \
  BRAID_NAMES_16                                                                 \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"             \
  ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"             \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111" \
  ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define BRAID_PRODUCT(tiles, n, type, add)                                                                  \
  "{.reg .pred p; setp.ne.b32 p, " add ", 0;\nwgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type \
  " {" BRAID_NAMES_##tiles "}, "

// d (64, n) = [d +] a (64, 16) b (16, n), n = 8 times the number of tiles; a in registers.
#define BRAID_MULTIPLY_REGISTERS(Packed, type, tiles, n, a, b, lines, add)                                \
  template <Lines kLines, bool kAdd>                                                                      \
  __device__ __forceinline__ void multiply_async(Packed, float(&d)[tiles][4], const std::uint32_t(&x)[4], \
                                                 std::uint64_t y) {                                       \
    asm volatile(BRAID_PRODUCT(tiles, n, type, add) "{" a "}, " b ", p, 1, 1, " lines ";}"                \
                 : BRAID_TILES_##tiles(d, 0)                                                              \
                 : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "l"(y), "n"(static_cast<int>(kLines)),     \
                   "n"(int{kAdd}));                                                                       \
  }
// The same with a in shared memory, k along its lines.
#define BRAID_MULTIPLY_SHARED(Packed, type, tiles, n, a, b, lines, add)                        \
  template <Lines kLines, bool kAdd>                                                           \
  __device__ __forceinline__ void multiply_async(Packed, float(&d)[tiles][4], std::uint64_t x, \
                                                 std::uint64_t y) {                            \
    asm volatile(BRAID_PRODUCT(tiles, n, type, add) a ", " b ", p, 1, 1, 0, " lines ";}"       \
                 : BRAID_TILES_##tiles(d, 0)                                                   \
                 : "l"(x), "l"(y), "n"(static_cast<int>(kLines)), "n"(int{kAdd}));             \
  }
#define BRAID_MULTIPLY(Packed, type)                                                               \
  BRAID_MULTIPLY_REGISTERS(Packed, type, 4, "32", "%16,%17,%18,%19", "%20", "%21", "%22")          \
  BRAID_MULTIPLY_REGISTERS(Packed, type, 8, "64", "%32,%33,%34,%35", "%36", "%37", "%38")          \
  BRAID_MULTIPLY_REGISTERS(Packed, type, 12, "96", "%48,%49,%50,%51", "%52", "%53", "%54")         \
  BRAID_MULTIPLY_REGISTERS(Packed, type, 16, "128", "%64,%65,%66,%67", "%68", "%69", "%70")        \
  BRAID_MULTIPLY_REGISTERS(Packed, type, 32, "256", "%128,%129,%130,%131", "%132", "%133", "%134") \
  BRAID_MULTIPLY_SHARED(Packed, type, 4, "32", "%16", "%17", "%18", "%19")                         \
  BRAID_MULTIPLY_SHARED(Packed, type, 8, "64", "%32", "%33", "%34", "%35")                         \
  BRAID_MULTIPLY_SHARED(Packed, type, 12, "96", "%48", "%49", "%50", "%51")                        \
  BRAID_MULTIPLY_SHARED(Packed, type, 16, "128", "%64", "%65", "%66", "%67")

BRAID_MULTIPLY(PackedBf16, "bf16")
BRAID_MULTIPLY(PackedHalf, "f16")

#undef BRAID_TILES_4
#undef BRAID_TILES_8
#undef BRAID_TILES_12
#undef BRAID_TILES_16
#undef BRAID_TILES_32
#undef BRAID_NAMES_4
#undef BRAID_NAMES_8
#undef BRAID_NAMES_12
#undef BRAID_NAMES_16
#undef BRAID_NAMES_32
#undef BRAID_PRODUCT
#undef BRAID_MULTIPLY_REGISTERS
#undef BRAID_MULTIPLY_SHARED
#undef BRAID_MULTIPLY

}  // namespace braid::cuda

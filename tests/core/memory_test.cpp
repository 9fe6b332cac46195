#include "braid/core/memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <utility>

namespace braid {
namespace {

TEST(Buffer, IsZeroedAlignedAndWritable) {
  const Buffer buffer(100000);
  EXPECT_EQ(buffer.bytes(), 100000u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % kAlignment, 0u);
  for (std::size_t i = 0; i < buffer.bytes(); ++i) ASSERT_EQ(buffer.data()[i], std::byte{0});
  std::memset(buffer.data(), 0x5a, buffer.bytes());
  EXPECT_EQ(buffer.data()[99999], std::byte{0x5a});
}

TEST(Buffer, EmptyHasNoMemory) {
  EXPECT_EQ(Buffer().data(), nullptr);
  EXPECT_EQ(Buffer(0).data(), nullptr);
  EXPECT_EQ(Buffer(0).bytes(), 0u);
}

TEST(Buffer, MovesItsMemory) {
  Buffer a(4096);
  std::byte* const data = a.data();
  data[7] = std::byte{9};
  Buffer b(std::move(a));
  EXPECT_EQ(b.data(), data);
  Buffer c(10);
  c = std::move(b);
  EXPECT_EQ(c.data(), data);
  EXPECT_EQ(c.bytes(), 4096u);
  EXPECT_EQ(c.data()[7], std::byte{9});
}

TEST(Buffer, TooMuchIsAnError) { EXPECT_THROW(Buffer(std::size_t{1} << 62), Error); }

TEST(Arena, HandsOutAlignedSeparateTensors) {
  const Buffer buffer(4096);
  Arena arena(buffer);
  const Tensor a = arena.make(DType::f32, {3}), b = arena.make(DType::f64, {2, 5}),
               c = arena.make(DType::u8, {0});
  EXPECT_EQ(a.data, buffer.data());
  EXPECT_EQ(b.data, buffer.data() + 256);
  EXPECT_EQ(c.data, buffer.data() + 512);
  EXPECT_EQ(b.shape, (Shape{2, 5}));
  EXPECT_EQ(b.dtype, DType::f64);
  EXPECT_EQ(b.device, Device::cpu);
  EXPECT_EQ(arena.used(), 512u);
}

TEST(Arena, ScopeGivesBackAndPeakRemembers) {
  const Buffer buffer(4096);
  Arena arena(buffer);
  arena.make(DType::u8, {256});
  const void* inner = nullptr;
  {
    const Arena::Scope scope(arena);
    inner = arena.make(DType::u8, {1000}).data;
    {
      const Arena::Scope nested(arena);
      arena.make(DType::u8, {1});
    }
    EXPECT_EQ(arena.used(), 256u + 1024u);
  }
  EXPECT_EQ(arena.used(), 256u);
  EXPECT_EQ(arena.peak(), 256u + 1024u + 256u);
  EXPECT_EQ(arena.make(DType::u8, {1}).data, inner);
}

TEST(Arena, ExhaustionSaysWhatWasAsked) {
  const Buffer buffer(1024);
  Arena arena(buffer);
  arena.make(DType::f32, {192});
  EXPECT_NO_THROW(arena.make(DType::f32, {64}));
  try {
    arena.make(DType::f32, {1});
    FAIL();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("arena exhausted: f32 (1) needs 256 bytes, 0 of 1024 are free"), std::string::npos)
        << message;
  }
  EXPECT_EQ(arena.used(), 1024u);
}

TEST(Arena, MeasuringNeedsNoMemory) {
  Arena arena = Arena::measuring();
  const Tensor t = arena.make(DType::f32, {1 << 20, 1 << 12});
  EXPECT_EQ(t.data, nullptr);
  EXPECT_EQ(t.device, Device::dry);
  EXPECT_EQ(arena.peak(), std::size_t{1} << 34);
}

TEST(AlignUp, RoundsToTheNextMultiple) {
  EXPECT_EQ(align_up(0), 0u);
  EXPECT_EQ(align_up(1), 256u);
  EXPECT_EQ(align_up(256), 256u);
  EXPECT_EQ(align_up(257), 512u);
}

}  // namespace
}  // namespace braid

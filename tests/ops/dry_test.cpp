// The dry backend and the op tables themselves.
#include <array>
#include <bit>

#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using Entry = void (*)();
constexpr std::size_t kEntries = sizeof(OpTable) / sizeof(Entry);
using Entries = std::array<Entry, kEntries>;

TEST(OpTables, AreComplete) {
  const OpTable dry_table = dry::op_table(nullptr);
  for (const auto* table : {reference::op_table(), cpu::op_table(), &dry_table}) {
    const auto entries = std::bit_cast<Entries>(*table);
    for (std::size_t i = 0; i < kEntries; ++i) EXPECT_NE(entries[i], nullptr) << "entry " << i;
  }
}

TEST(OpTables, MissingEntryNamesItsOp) {
  const OpTable empty;
  Arena scratch = Arena::measuring();
  Context ctx{Device::cpu, &empty, &scratch, nullptr, Arithmetic::fast};
  test::TestTensors t(1);
  const Tensor x = t.zeros(DType::f32, {3});
  try {
    ops::add(ctx, x, x, x);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("add"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("not implemented on this backend"), std::string::npos);
  }
}

TEST(Dry, DoesNothingToItsTensors) {
  const OpTable table = dry::op_table(nullptr);
  Context ctx{Device::dry, &table, nullptr, nullptr, Arithmetic::fast};
  test::TestTensors t(1);
  const Tensor x = t.normal("x", DType::f32, {5}), before = t.copy_of(x);
  ops::fill(ctx, x, 3);
  ops::add(ctx, x, x, x);
  test::expect_same(x, before, "x");
}

TEST(Dry, StillChecksArguments) {
  const OpTable table = dry::op_table(nullptr);
  Context ctx{Device::dry, &table, nullptr, nullptr, Arithmetic::fast};
  test::TestTensors t(1, DType::f32, test::Contents::null);
  test::expect_op_error([&] { ops::add(ctx, t.make(DType::f32, {3}), t.make(DType::f32, {2}), {}); }, "add",
                        "a is f32 (2)");
}

void make_ten_floats(Context& ctx, Tensor, double) {
  const Arena::Scope scope(*ctx.scratch);
  ctx.scratch->make(DType::f32, {10});
}

TEST(Dry, UsesTheScratchTableWhereItHasEntries) {
  const OpTable scratch_table{.fill = make_ten_floats};
  const OpTable table = dry::op_table(&scratch_table);
  Arena scratch = Arena::measuring();
  Context ctx{Device::dry, &table, &scratch, nullptr, Arithmetic::fast};
  test::TestTensors t(1, DType::f32, test::Contents::null);
  const Tensor x = t.make(DType::f32, {3});
  ops::add(ctx, x, x, x);
  EXPECT_EQ(scratch.peak(), 0u);
  ops::fill(ctx, x, 1);
  EXPECT_EQ(scratch.peak(), align_up(40));
  EXPECT_EQ(scratch.used(), 0u);
}

}  // namespace
}  // namespace braid

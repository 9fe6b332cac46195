// Products of many narrow rows, and SwiGLU and gated norms beside them, against the ops' reference.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "braid/backends/cuda/launch.h"
#include "braid/backends/cuda/matmul/resident/backward.cuh"
#include "braid/backends/cuda/matmul/resident/forward.cuh"
#include "braid/ops/rms_norm.h"
#include "braid/ops/swiglu.h"
#include "tests/support/trial.h"

namespace braid::cuda::resident {
namespace {

struct Case {
  std::int64_t rows, width, inner;
  int workers;
};

EmulatedMap map_of(const ConstTensor& t, int box_rows = kRows) {
  return matrix_map(pointer<bf16>(t), t.shape[0], t.shape[1], kBoxColumns, box_rows);
}

// Blocks run in random order.
template <class Layout, class Kernel>
void launch(const Problem& p, std::uint64_t seed, const Kernel& kernel) {
  test::emulation::Launch l{.blocks = std::vector<unsigned>(static_cast<std::size_t>(p.blocks * p.workers)),
                            .threads = Layout::kThreads,
                            .seed = seed};
  std::iota(l.blocks.begin(), l.blocks.end(), 0U);
  std::mt19937_64 random(seed);
  std::ranges::shuffle(l.blocks, random);
  test::emulation::run(l, kernel);
}

template <int kBoxes>
void run(const Case& c, std::uint64_t seed) {
  SCOPED_TRACE(fmt::format("{} rows, width {}, inner {}, {} workers", c.rows, c.width, c.inner, c.workers));
  test::TestTensors t(seed, DType::bf16);
  auto reference = test::reference_context();
  const auto exact = [&](const ConstTensor& x) { return t.copy_of(x, DType::f64); };
  const auto normal = [&](std::string_view name, const Shape& shape, double scale) {
    return t.normal(name, DType::bf16, shape, {.scale = scale});
  };
  const double unit = 1 / std::sqrt(static_cast<double>(c.inner));
  const Problem p{c.rows, static_cast<int>(c.width / kColumns), c.workers};

  const Tensor x = normal("x", {c.rows, c.inner}, 1), weight = normal("weight", {2 * c.width, c.inner}, unit);
  const Tensor y = t.make(DType::bf16, {c.rows, c.width}), want_y = t.make(DType::f64, y.shape);
  const Tensor gate_up = t.make(DType::bf16, {c.rows, 2 * c.width}),
               want_kept = t.make(DType::f64, gate_up.shape);
  ops::swiglu_linear(*reference, want_y, want_kept, exact(x), exact(weight));
  const EmulatedMap rows = map_of(x), weights = map_of(weight), kept_map = map_of(gate_up, kWarpRows),
                    y_map = map_of(y, kWarpRows);
  const Maps forward{.rows = tensor_map_of(rows),
                     .weights = tensor_map_of(weights),
                     .gate_up = tensor_map_of(kept_map),
                     .y = tensor_map_of(y_map)};
  auto limit = test::tolerance_for(DType::bf16, c.inner);
  limit.relative_rms *= 1.75;  // gate and up are rounded too
  t.set(gate_up, 0, 77);
  for (const bool kept : {false, true}) {
    launch<ForwardLayout<kBoxes>>(p, seed, [&] { swiglu_linear_kernel<kBoxes>(forward, p, kept); });
    test::expect_close(y, want_y, limit, "y");
    if (!kept) {
      EXPECT_EQ(static_cast<float>(pointer<bf16>(gate_up)[0]), 77) << "gate_up is left alone";
    }
    for (std::int64_t i = 0; i < y.count() && !kept; ++i) t.set(y, i, 77);
  }
  test::expect_close(gate_up, want_kept, test::tolerance_for(DType::bf16, c.inner), "gate_up");

  const Tensor dout = normal("dout", {c.rows, c.inner}, 1), down = normal("down", {c.inner, c.width}, unit);
  const Tensor dgate_up = t.make(DType::bf16, gate_up.shape), want = t.make(DType::f64, gate_up.shape);
  ops::swiglu_linear_backward(*reference, want, exact(dout), exact(down), exact(gate_up));
  const EmulatedMap drows = map_of(dout), downs = map_of(down), gates = map_of(gate_up);
  const Maps backward{.rows = tensor_map_of(drows),
                      .weights = tensor_map_of(downs),
                      .gate_up = tensor_map_of(gates),
                      .y = {}};
  launch<BackwardLayout<kBoxes>>(
      p, seed + 1, [&] { swiglu_backward_kernel<kBoxes>(backward, p, pointer<bf16>(dgate_up)); });
  test::expect_close(dgate_up, want, test::tolerance_for(DType::bf16, c.inner), "dgate_up");
  launch<BackwardLayout<kBoxes>>(
      p, seed + 2, [&] { swiglu_backward_kernel<kBoxes>(backward, p, pointer<bf16>(gate_up)); });
  test::expect_same(gate_up, dgate_up, "dgate_up in place");
}

// Rows that no tile divides, so few that a worker has none, so many that rings turn; inner sizes of whole
// boxes and others; one to three blocks to a row.
TEST(EmulatedResident, SwigluBesideItsProducts) {
  run<2>({70, 128, 128, 1}, 1);
  run<2>({150, 384, 72, 2}, 2);
  run<2>({64, 128, 8, 3}, 3);
  for (const std::uint64_t seed : {3, 4, 9}) run<4>({600, 128, 256, 1}, seed);  // copies slow, quick, slow
  run<4>({333, 256, 200, 2}, 5);
}

// Products of the same rows with weights of so many rows (or, along_n, columns).
template <int kBoxes, Lines kLines>
void run_linear(std::int64_t rows, std::int64_t inner, const std::vector<std::int64_t>& widths, int workers,
                std::uint64_t seed = 1) {
  SCOPED_TRACE(fmt::format("{} rows, inner {}, widths {}", rows, inner, fmt::join(widths, " ")));
  constexpr bool kTransposed = kLines == Lines::along_k;
  test::TestTensors t(static_cast<std::uint64_t>(rows), DType::bf16);
  auto reference = test::reference_context();
  const Tensor x = t.normal("x", DType::bf16, {rows, inner}), exact_x = t.copy_of(x, DType::f64);
  const EmulatedMap row_map = map_of(x);
  EmulatedMap weight_maps[ops::kMostLinearParts], y_maps[ops::kMostLinearParts];
  LinearMaps maps{.rows = tensor_map_of(row_map), .weights = {}, .y = {}};
  LinearWidths part_widths{};
  Problem p{rows, 0, workers};
  std::vector<Tensor> got, want;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    const std::int64_t width = widths[i];
    const Tensor weight = t.normal(fmt::format("weight {}", i), DType::bf16,
                                   kTransposed ? Shape{width, inner} : Shape{inner, width}, {.scale = 0.1});
    weight_maps[i] = map_of(weight);
    maps.weights[i] = tensor_map_of(weight_maps[i]);
    got.push_back(t.make(DType::bf16, {rows, width}));
    want.push_back(t.make(DType::f64, {rows, width}));
    y_maps[i] = map_of(got[i], kWarpRows);
    maps.y[i] = tensor_map_of(y_maps[i]);
    part_widths.of[i] = static_cast<int>(width);
    p.blocks += linear_blocks(part_widths.of[i]);
    ops::matmul(*reference, want[i], exact_x, t.copy_of(weight, DType::f64),
                {.b = kTransposed ? ops::Transpose::yes : ops::Transpose::no});
  }
  launch<ForwardLayout<kBoxes>>(p, seed, [&] { linear_group_kernel<kBoxes, kLines>(maps, part_widths, p); });
  for (std::size_t i = 0; i < got.size(); ++i) {
    test::expect_close(got[i], want[i], test::tolerance_for(DType::bf16, inner), fmt::format("part {}", i));
  }
}

TEST(EmulatedResident, LinearGroups) {
  run_linear<2, Lines::along_k>(150, 128, {256, 128, 520}, 1);
  run_linear<4, Lines::along_k>(400, 256, {264}, 2);
  for (const std::uint64_t seed : {3, 9}) run_linear<4, Lines::along_k>(600, 256, {200}, 1, seed);
  run_linear<4, Lines::along_k>(65, 136, {8, 512, 72, 128}, 3);
  run_linear<2, Lines::along_n>(150, 72, {264}, 1);
  run_linear<4, Lines::along_n>(260, 256, {512}, 2);
}

template <int kBoxes>
void run_gated_norm(std::int64_t rows, std::int64_t heads, std::int64_t inner, int workers,
                    std::uint64_t seed = 1) {
  SCOPED_TRACE(fmt::format("{} rows, {} heads, inner {}", rows, heads, inner));
  test::TestTensors t(static_cast<std::uint64_t>(rows), DType::bf16);
  auto reference = test::reference_context();
  const auto exact = [&](const ConstTensor& x) { return t.copy_of(x, DType::f64); };
  const Shape shape{rows * heads, kColumns}, wide{rows, heads * kColumns};
  const Tensor x = t.normal("x", DType::bf16, shape), gate = t.normal("gate", DType::bf16, shape);
  const Tensor weight = t.normal("weight", DType::f32, {kColumns});
  const Tensor inverse_rms = t.normal("inverse_rms", DType::f32, {rows * heads});
  const Tensor dout = t.normal("dout", DType::bf16, {rows, inner});
  const Tensor out_weight = t.normal("out_weight", DType::bf16, {inner, wide[1]}, {.scale = 0.1});
  const Tensor dx = t.make(DType::bf16, shape), dgate = t.make(DType::bf16, shape);
  const Tensor want_dx = t.make(DType::f64, shape), want_dgate = t.make(DType::f64, shape),
               want_dweight = t.zeros(DType::f64, {kColumns});
  ops::gated_rms_norm_linear_backward(*reference, want_dx, want_dgate, want_dweight, exact(dout),
                                      exact(out_weight), exact(gate),
                                      {exact(x), exact(weight), exact(inverse_rms)});
  const Problem p{rows, static_cast<int>(heads), workers};
  const Tensor sums = t.make(DType::f32, {heads * workers, kColumns});
  const EmulatedMap row_map = map_of(dout), weight_map = map_of(out_weight),
                    x_map = map_of(reshaped(x, wide)), gate_map = map_of(reshaped(gate, wide));
  const GatedNormMaps maps{tensor_map_of(row_map), tensor_map_of(weight_map), tensor_map_of(x_map),
                           tensor_map_of(gate_map)};
  const GatedNorm norm{pointer<float>(weight), pointer<float>(inverse_rms), pointer<bf16>(dx),
                       pointer<bf16>(dgate), pointer<float>(sums)};
  launch<BackwardLayout<kBoxes>>(p, seed, [&] { gated_norm_backward_kernel<kBoxes>(maps, p, norm); });
  const auto limit = test::tolerance_for(DType::bf16, inner);
  test::expect_close(dx, want_dx, limit, "dx");
  test::expect_close(dgate, want_dgate, limit, "dgate");
  const Tensor dweight = t.make(DType::f32, {kColumns});
  for (std::int64_t c = 0; c < kColumns; ++c) {
    double sum = 0;
    for (std::int64_t i = 0; i < sums.shape[0]; ++i) {
      sum += static_cast<const float*>(sums.data)[i * kColumns + c];
    }
    t.set(dweight, c, sum);
  }
  test::expect_close(dweight, want_dweight, test::tolerance_for(DType::f32, rows * heads * inner), "dweight");
}

TEST(EmulatedResident, GatedNormBesideItsProduct) {
  run_gated_norm<2>(70, 1, 128, 1);
  run_gated_norm<2>(150, 3, 72, 2);
  run_gated_norm<2>(64, 1, 8, 3);
  for (const std::uint64_t seed : {1, 3, 9}) run_gated_norm<4>(600, 1, 256, 1, seed);
  run_gated_norm<4>(333, 2, 200, 2);
}

// A place that is given back, or sent, without a fence.
TEST(EmulatedResident, MissingFencesShow) {
  using test::emulation::Launch, test::emulation::run;
  const Launch one{.blocks = {0}, .threads = 32, .seed = 1};
  test::TestTensors t(1, DType::bf16);
  const Tensor x = t.zeros(DType::bf16, {kRows, kBoxColumns});
  const EmulatedMap map = map_of(x);
  const CUtensorMap opaque = tensor_map_of(map);
  __shared__ std::uint64_t barrier;
  const SharedAddress at = shared_address(&barrier);
  const auto kernel = [&](bool reads, bool writes, bool fences) {
    return [=, &opaque] {
      const SharedAddress place = shared_address(aligned_dynamic_shared());
      const bool first = threadIdx.x == 0;
      if (first) init_barrier(at, 1);
      __syncthreads();
      std::uint32_t values[4] = {};
      if (reads) load_matrices(values, place + threadIdx.x * 16);
      if (writes) store_matrices(place + threadIdx.x * 16, values);
      if (fences) fence_shared_for_async();
      __syncthreads();
      if (first && writes) {
        store_box(opaque, place, 0, 0);
        commit_stores();
        wait_for_stores_to_read();
      }
      if (first && reads) {
        arrive_expecting(at, kBoxBytes);
        copy_box(place, opaque, at, 0, 0);
      }
      if (reads) wait_for_phase(at, 0);
    };
  };
  run(one, kernel(true, false, true));
  run(one, kernel(false, true, true));
  const auto mistake = [&](bool reads, bool writes) -> std::string {
    try {
      run(one, kernel(reads, writes, false));
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "none";
  };
  EXPECT_EQ(mistake(true, false),
            "emulation: the copy engine writes where a thread's access has had no fence");
  EXPECT_EQ(mistake(false, true), "emulation: the copy engine reads what a thread stored without a fence");
}

}  // namespace
}  // namespace braid::cuda::resident

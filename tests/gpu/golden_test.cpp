// The published implementation's numbers through the CUDA backend, in f32 and in bf16.
#include <cmath>

#include "braid/backends/backends.h"
#include "braid/eval/dump.h"
#include "tests/support/comparator.h"
#include "tests/support/files.h"
#include "tests/support/trial.h"

namespace braid::test {
namespace {

constexpr const char* kCases[] = {"hybrid",         "hybrid-nope", "hybrid-no-positions",
                                  "hybrid-gqa-gva", "olmo3",       "olmo3-yarn"};

Tolerance f32_tolerance(const std::string& name) {
  if (name.starts_with("grad.")) return {1e-3, 1e-1};
  if (name == "loss" || name == "z_loss" || name == "adamw.losses") return {1e-5, 1e-5};
  return {1e-4, 1e-3};  // logits, step_logits
}

io::TensorFiles wanted(const std::string& name) {
  return io::TensorFiles(golden(name) / "golden.safetensors");
}

void dump_of(eval::TensorBag& out, const std::string& name, const Backend& backend, DType matrix) {
  const model::Model model = model::load_model(golden(name), {.matrix = matrix}, backend.memory);
  eval::dump(out, backend, model, wanted(name), eval::DumpGradients::yes);
}

// Over all tensors of one kind: "logits", "step_logits", "grad.".
double relative_error(const eval::TensorBag& got, const io::TensorFiles& want, std::string_view kind) {
  double difference = 0, norm = 0;
  for (const auto& [name, tensor] : want.tensors()) {
    if (!name.starts_with(kind)) continue;
    const ConstTensor& mine = got.at(name);
    for (std::int64_t i = 0; i < tensor.count(); ++i) {
      const double d = element(mine, i) - element(tensor, i);
      difference += d * d;
      norm += element(tensor, i) * element(tensor, i);
    }
  }
  return std::sqrt(difference / norm);
}

class GpuGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(GpuGolden, F32) {
  const std::string name = GetParam();
  eval::TensorBag got;
  dump_of(got, name, cuda_context().backend(), DType::f32);
  const auto want = wanted(name);
  for (const auto& [tensor_name, tensor] : want.tensors()) {
    if (tensor_name == "input_ids" || tensor_name == "prompt") continue;
    const auto what = name + " " + tensor_name;
    if (tensor.dtype == DType::i64) {
      expect_same(got.at(tensor_name), tensor, what);
    } else {
      expect_close(got.at(tensor_name), tensor, f32_tolerance(tensor_name), what);
    }
  }
}

// The limits 2e-2 (logits) and 5e-2 (gradients) hold where the model's conditioning lets any bf16 reach them.
// In the three hybrids without grouped heads, rounding the matrices to bf16 alone, all else in f32, moves
// logits by about 4 % and gradients by 10 to 20 %: there computing in bf16 may move them twice as far.
// docs/gpu.md has the figures.
TEST_P(GpuGolden, Bf16) {
  const std::string name = GetParam();
  eval::TensorBag got, rounded;
  dump_of(got, name, cuda_context().backend(), DType::bf16);
  dump_of(rounded, name, make_backend("cpu"), DType::bf16);
  const auto want = wanted(name);
  for (const auto& [kind, limit] :
       {std::pair{"logits", 2e-2}, std::pair{"step_logits", 2e-2}, std::pair{"grad.", 5e-2}}) {
    const double error = relative_error(got, want, kind), inherent = relative_error(rounded, want, kind);
    fmt::print("{:<20} {:<12} error {:.4f}, matrices rounded alone {:.4f}\n", name, kind, error, inherent);
    EXPECT_LE(error, std::max(limit, 2 * inherent)) << name << " " << kind;
  }
  expect_close(got.at("adamw.losses"), want.at("adamw.losses"), {2e-2, 2e-2}, name + " adamw.losses");
}

std::string test_name(const ::testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::ranges::replace(name, '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Cases, GpuGolden, ::testing::ValuesIn(kCases), test_name);

}  // namespace
}  // namespace braid::test

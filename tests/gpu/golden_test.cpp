// The published implementation's numbers through the CUDA backend, in f32 and in bf16.
#include "braid/backends/backends.h"
#include "braid/eval/dump.h"
#include "tests/support/comparator.h"
#include "tests/support/files.h"
#include "tests/support/trial.h"

namespace braid::test {
namespace {

constexpr const char* kCases[] = {"hybrid",         "hybrid-nope", "hybrid-no-positions",
                                  "hybrid-gqa-gva", "olmo3",       "olmo3-yarn"};

Tolerance tolerance(const std::string& name, DType compute) {
  const bool f32 = compute == DType::f32;
  if (name.starts_with("grad.")) return f32 ? Tolerance{1e-3, 1e-1} : Tolerance{5e-2, 1};
  if (name == "loss" || name == "z_loss" || name == "adamw.losses") {
    return f32 ? Tolerance{1e-5, 1e-5} : Tolerance{2e-2, 2e-2};
  }
  return f32 ? Tolerance{1e-4, 1e-3} : Tolerance{2e-2, 2e-1};  // logits, step_logits
}

void expect_golden(const std::string& name, DType compute) {
  const Backend& backend = cuda_context().backend();
  const model::Model model = model::load_model(golden(name), {.matrix = compute}, backend.memory);
  const io::TensorFiles want(golden(name) / "golden.safetensors");
  eval::TensorBag got;
  eval::dump(got, backend, model, want, eval::DumpGradients::yes);
  for (const auto& [tensor_name, tensor] : want.tensors()) {
    if (tensor_name == "input_ids" || tensor_name == "prompt") continue;
    const auto what = fmt::format("{} {} {}", name, name_of(compute), tensor_name);
    if (tensor.dtype != DType::i64) {
      expect_close(got.at(tensor_name), tensor, tolerance(tensor_name, compute), what);
    } else if (compute == DType::f32) {  // in bf16 near ties may fall either way
      expect_same(got.at(tensor_name), tensor, what);
    }
  }
}

class GpuGolden : public ::testing::TestWithParam<const char*> {};
TEST_P(GpuGolden, F32) { expect_golden(GetParam(), DType::f32); }
TEST_P(GpuGolden, Bf16) { expect_golden(GetParam(), DType::bf16); }

std::string test_name(const ::testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::ranges::replace(name, '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Cases, GpuGolden, ::testing::ValuesIn(kCases), test_name);

}  // namespace
}  // namespace braid::test

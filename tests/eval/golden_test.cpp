// The published implementation's numbers, end to end: files, model, loss, gradients, decoding, optimiser.
#include "braid/backends/backends.h"
#include "braid/eval/dump.h"
#include "tests/support/comparator.h"
#include "tests/support/files.h"

namespace braid::test {
namespace {

constexpr const char* kCases[] = {"hybrid",         "hybrid-nope", "hybrid-no-positions",
                                  "hybrid-gqa-gva", "olmo3",       "olmo3-yarn"};

Tolerance golden_tolerance(const std::string& name) {
  if (name.starts_with("grad.")) return {1e-4, 1e-2};
  if (name == "loss" || name == "z_loss") return {1e-6, 1e-6};
  if (name == "adamw.losses") return {1e-5, 1e-5};
  return {1e-5, 1e-4};  // logits, step_logits
}

void expect_golden(const std::string& backend_name, const std::string& name) {
  const Backend backend = make_backend(backend_name);
  const model::Model model = model::load_model(golden(name), {});
  const io::TensorFiles want(golden(name) / "golden.safetensors");
  eval::TensorBag got;
  eval::dump(got, backend, model, want, eval::DumpGradients::yes);
  std::size_t compared = 0;
  for (const auto& [tensor_name, tensor] : want.tensors()) {
    if (tensor_name == "input_ids" || tensor_name == "prompt") continue;
    const auto what = name + " " + tensor_name;
    if (tensor.dtype == DType::i64) {
      expect_same(got.at(tensor_name), tensor, what);
    } else {
      expect_close(got.at(tensor_name), tensor, golden_tolerance(tensor_name), what);
    }
    ++compared;
  }
  EXPECT_EQ(compared, got.tensors().size()) << "the dump holds tensors that the golden file does not";
}

class Golden : public ::testing::TestWithParam<const char*> {};
TEST_P(Golden, Cpu) { expect_golden("cpu", GetParam()); }
TEST_P(Golden, FullReference) { expect_golden("reference", GetParam()); }

std::string test_name(const ::testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::ranges::replace(name, '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Cases, Golden, ::testing::ValuesIn(kCases), test_name);

// Without gradients nothing of the parameters changes and the rest is the same.
TEST(Dump, WithoutGradientsHasOnlyForwardResults) {
  const Backend backend = make_backend("cpu");
  const model::Model model = model::load_model(golden("hybrid"), {});
  eval::TensorBag out;
  eval::dump(out, backend, model, io::TensorFiles(golden("hybrid") / "golden.safetensors"),
             eval::DumpGradients::no);
  std::vector<std::string> names;
  for (const auto& t : out.tensors()) names.push_back(t.name);
  EXPECT_EQ(names, (std::vector<std::string>{"logits", "loss", "z_loss", "step_logits", "greedy"}));
}

TEST(Dump, BadIdsAreNamed) {
  const Backend backend = make_backend("cpu");
  const model::Model model = model::load_model(golden("hybrid"), {});
  TemporaryFolder folder;
  const std::vector<std::int64_t> ids{5, 320};
  ConstTensor t;
  t.data = ids.data();
  t.dtype = DType::i64;
  t.shape = {1, 2};
  io::write_safetensors(folder / "bad.safetensors", {{"input_ids", t}});
  eval::TensorBag out;
  const auto message = message_of([&] {
    eval::dump(out, backend, model, io::TensorFiles(folder / "bad.safetensors"), eval::DumpGradients::no);
  });
  EXPECT_HOLDS(message, "bad.safetensors");
  EXPECT_HOLDS(message, "input_ids");
  EXPECT_HOLDS(message, "320");
}

}  // namespace
}  // namespace braid::test

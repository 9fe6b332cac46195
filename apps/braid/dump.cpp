#include "braid/eval/dump.h"

#include "command.h"

namespace braid::app {
namespace {

struct Options {
  std::string model, input, output;
  std::string dtype = "f32";
  bool gradients = false;
  BackendOptions backend;
};

void run(const Options& o) {
  const Backend backend = o.backend.make();
  require(o.dtype == "f32" || backend.activation_dtype(DType::bf16) == DType::bf16,
          "--dtype bf16: backend '{}' computes in f32 only", backend.name);
  const model::Model model =
      model::load_model(o.model, {.matrix = o.dtype == "bf16" ? DType::bf16 : DType::f32}, backend.memory);
  const io::TensorFiles inputs(o.input);
  eval::TensorBag out;
  eval::dump(out, backend, model, inputs, o.gradients ? eval::DumpGradients::yes : eval::DumpGradients::no);
  io::write_safetensors(o.output, out.tensors());
  fmt::print("{}: {} tensors\n", o.output, out.tensors().size());
  warn_of_numerical_events(backend);
}

}  // namespace

void add_dump(CLI::App& app) {
  auto* command =
      app.add_subcommand("dump", "write logits, losses and gradients, to compare with other systems");
  auto o = std::make_shared<Options>();
  command->add_option("model", o->model, "model directory")->required()->check(CLI::ExistingDirectory);
  command->add_option("--input", o->input, "safetensors file with input_ids and, if wanted, prompt")
      ->required()
      ->check(CLI::ExistingFile);
  command->add_option("--output", o->output, "safetensors file to write")->required();
  command->add_flag("--gradients", o->gradients, "also every gradient and four AdamW losses");
  command->add_option("--dtype", o->dtype, "what the model computes in: f32, or bf16 on a GPU")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  o->backend.add_to(*command);
  command->callback([o] { run(*o); });
}

}  // namespace braid::app

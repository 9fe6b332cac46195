#include "braid/io/checksums.h"
#include "braid/model/directory.h"
#include "braid/model/weights.h"
#include "command.h"
#include "encodings.h"

namespace braid::app {
namespace {

struct Options {
  std::string model, output, dtype = "f32", shard_size = "5GB";
};

DType dtype_named(const std::string& name) {
  if (name == "bf16") return DType::bf16;
  return name == "f16" ? DType::f16 : DType::f32;
}

void run(const Options& o) {
  const auto dtype = dtype_named(o.dtype);
  const auto shard = parse_size(o.shard_size, "--shard-size");
  // bf16 output needs no f32 copy in between: its rounding is the same either way.
  const auto model = model::load_model(o.model, {.matrix = dtype == DType::bf16 ? DType::bf16 : DType::f32});
  model::publish_directory(o.output, [&](const io::fs::path& folder) {
    const auto checksums = model::save_model(folder, model.parameters.tree(), model.config,
                                             {.dtype = dtype, .max_shard_bytes = shard});
    model::copy_small_files(o.model, folder);
    io::write_checksums(folder, checksums);
  });
  fmt::print("{}: {} weights, from {}\n", o.output, o.dtype, o.model);
}

}  // namespace

void add_convert(CLI::App& app) {
  auto* command =
      app.add_subcommand("convert", "rewrite a model directory in another dtype, published names");
  auto o = std::make_shared<Options>();
  command->add_option("model", o->model, "model directory")->required()->check(CLI::ExistingDirectory);
  command->add_option("output", o->output, "directory to write; must be new or empty")->required();
  command->add_option("--dtype", o->dtype, "of the weights; A_log and dt_bias stay f32")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  command->add_option("--shard-size", o->shard_size, "largest weights file, 0: one file")
      ->capture_default_str();
  command->callback([o] { run(*o); });
}

}  // namespace braid::app

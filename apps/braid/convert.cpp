#include <array>

#include "braid/model/weights.h"
#include "command.h"
#include "encodings.h"

namespace braid::app {
namespace {

namespace fs = io::fs;

struct Options {
  std::string model, output, dtype = "f32", shard_size = "5GB";
};

constexpr std::array kKept = {
    "generation_config.json",  "tokenizer.json",    "braid_tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json",           "merges.txt",
    "chat_template.jinja"};

DType dtype_named(const std::string& name) {
  if (name == "bf16") return DType::bf16;
  return name == "f16" ? DType::f16 : DType::f32;
}

// A folder name beside `output`, so that it can be renamed into place.
fs::path temporary_beside(const fs::path& output) {
  auto path = fs::absolute(output).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // OUT/
  path += ".unfinished";
  require(!fs::exists(path), "{} is left over from an interrupted conversion: remove it", path.string());
  return path;
}

void run(const Options& o) {
  const bool exists = fs::exists(o.output);
  require(!exists || (fs::is_directory(o.output) && fs::is_empty(o.output)),
          "{}: exists and is not an empty directory; choose another output", o.output);
  const auto dtype = dtype_named(o.dtype);
  const auto shard = parse_size(o.shard_size, "--shard-size");
  // bf16 output needs no f32 copy in between: its rounding is the same either way.
  const auto model = model::load_model(o.model, {.matrix = dtype == DType::bf16 ? DType::bf16 : DType::f32});
  const auto temporary = temporary_beside(o.output);
  try {
    model::save_model(temporary, model.parameters.tree(), model.config,
                      {.dtype = dtype, .max_shard_bytes = shard});
    for (const char* name : kKept) {
      const auto from = fs::path(o.model) / name;
      if (fs::exists(from)) io::write_file(temporary / name, io::read_file(from));
    }
    if (exists) fs::remove(o.output);
    io::publish_folder(temporary, fs::path(temporary).replace_extension());
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
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

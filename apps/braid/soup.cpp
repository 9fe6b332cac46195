#include "braid/model/soup.h"

#include "command.h"
#include "encodings.h"

namespace braid::app {
namespace {

struct Options {
  std::vector<std::string> models;
  std::string output, shard_size = "5GB";
  std::vector<double> weights;
};

void run(const Options& o) {
  const auto summary =
      model::make_soup({o.models.begin(), o.models.end()}, o.output,
                       {.weights = o.weights, .max_shard_bytes = parse_size(o.shard_size, "--shard-size")});
  fmt::print("{}: {:.2f}M parameters, f32\n", o.output, static_cast<double>(summary.parameters) / 1e6);
  for (std::size_t i = 0; i < o.models.size(); ++i)
    fmt::print("  {:.4f}  {}\n", summary.weights[i], o.models[i]);
}

}  // namespace

void add_soup(CLI::App& app) {
  auto* command = app.add_subcommand("soup", "average models of one configuration, in f32");
  auto o = std::make_shared<Options>();
  command->add_option("models", o->models, "model directories, f32, bf16 or f16")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("--output", o->output, "directory to write; must be new or empty")->required();
  command->add_option("--weights", o->weights, "one a model, divided by their sum; default: equal")
      ->delimiter(',');
  command->add_option("--shard-size", o->shard_size, "largest weights file, 0: one file")
      ->capture_default_str();
  command->callback([o] { run(*o); });
}

}  // namespace braid::app

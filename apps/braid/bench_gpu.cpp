// braid bench gpu: every op at the 7B's shapes, training, prefill and decode, beside ceilings measured in the
// same run.
#include "bench_gpu.h"

#include "braid/model/presets.h"

namespace braid::app {
namespace {

using namespace gpu_bench;

void run(const Options& o) {
  if (o.parts == std::vector<std::string>{"lab"}) {
    fmt::print("{}\n", make_backend("cuda").description);
    return bench_lab(o);
  }
  const auto config = model::preset(o.model);
  require(config.has_value(), "--model '{}' is no preset: 'braid inspect --list' prints them", o.model);
  require(o.batch_size > 0 || o.parts == std::vector<std::string>{"step"},
          "--batch 0 goes with --parts step alone");
  require(o.prompt() >= 1 || std::ranges::find(o.parts, "decode") == o.parts.end(),
          "--context {} is too short for --decode-tokens {}, which lie around it after others that warm up: "
          "give at "
          "least {}",
          o.context, o.decode_tokens, o.context + 1 - o.prompt());
  const Backend backend = make_backend("cuda");
  fmt::print("{}; {}\n", backend.description, o.model);
  Filler filler(backend);
  const auto ceilings = measure_ceilings(backend, filler);
  for (const auto& part : o.parts) {
    if (part == "ops") bench_ops(backend, ceilings, filler, o, *config);
    if (part == "gradients") bench_gradients(backend, ceilings, filler, o, *config);
    if (part == "lab") bench_lab(o);
    if (part == "step") bench_step(backend, ceilings, filler, o, *config);
  }
  bench_inference(backend, ceilings, filler, o, *config);
}

}  // namespace

void add_gpu_bench(CLI::App& bench) {
  auto* gpu = bench.add_subcommand("gpu", "every op, training, prefill and decode on one GPU");
  auto o = std::make_shared<Options>();
  gpu->add_option("--model", o->model, "preset whose shapes are timed")->capture_default_str();
  gpu->add_option("--parts", o->parts, "of ops, gradients, step, prefill, decode, lab")
      ->delimiter(',')
      ->check(CLI::IsMember({"ops", "gradients", "step", "prefill", "decode", "lab"}))
      ->capture_default_str();
  gpu->add_option("--batch", o->batch_size, "sequences; 0, with part step alone: the most that fit")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  gpu->add_option("--length", o->length, "tokens per sequence")
      ->check(CLI::Range(64, 1 << 20))
      ->capture_default_str();
  gpu->add_option("--context", o->context, "tokens that the decoded ones follow, on average")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  gpu->add_option("--sequences", o->sequences, "decoded at once, one row of the table each")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  gpu->add_option("--decode-tokens", o->decode_tokens, "timed tokens")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  gpu->add_option("--recompute", o->recompute,
                  "in forward + backward: none, cheap ops, these and the delta rule, or block")
      ->check(CLI::IsMember({"none", "cheap", "delta", "block"}))
      ->capture_default_str();
  gpu->add_flag("--by-op", o->by_op, "also the time of every op, in parts gradients and lab");
  gpu->add_option("--lab-runs", o->lab_runs, "in part lab: how many runs at a time, one figure for each")
      ->delimiter(',')
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  gpu->add_option("--lab-models", o->lab_models, "in part lab")
      ->delimiter(',')
      ->check(CLI::IsMember(o->lab_models))
      ->capture_default_str();
  gpu->add_option("--lab-cases", o->lab_cases, "in part lab: problem and n")
      ->delimiter(',')
      ->check(CLI::IsMember(o->lab_cases))
      ->capture_default_str();
  gpu->add_option("--lab-seconds", o->lab_seconds, "in part lab: how long each case is timed")
      ->check(CLI::Range(0.1, 600.0))
      ->capture_default_str();
  gpu->callback([o] { run(*o); });
}

}  // namespace braid::app

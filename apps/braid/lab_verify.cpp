#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>

#include "braid/lab/constructions/directory.h"
#include "braid/lab/constructions/verify.h"
#include "lab.h"
#include "table.h"

namespace braid::app {
namespace {

struct Options {
  std::string what, dtype = "f32";
  std::vector<std::int64_t> n;
  bool exhaustive = false;
  lab::VerifyOptions verify;
  BackendOptions backend;
};

// A construction by its name, or a directory that `braid lab build` wrote.
class Subject {
 public:
  Subject(const Options& o, const Backend& backend)
      : o_(o), backend_(backend), saved_(io::fs::is_directory(o.what)) {
    if (saved_) {
      const auto read = lab::read_construction(o.what);
      construction_ = read.construction, built_for_ = read.n;
    } else {
      construction_ = &lab::construction_named(o.what);
    }
  }
  const lab::Construction& construction() const { return *construction_; }
  std::int64_t built_for(std::int64_t n) const { return saved_ ? built_for_ : n; }
  std::vector<std::int64_t> sizes() const {
    if (!o_.n.empty()) return o_.n;
    if (saved_) return {built_for_};
    return construction_->usual_sizes();
  }
  model::Model model(std::int64_t n) const {
    require(!saved_ || n <= built_for_, "{}: was built for n = {}, --n {} is more", o_.what, built_for_, n);
    const model::ParameterTypes types{.matrix = o_.dtype == "bf16" ? DType::bf16 : DType::f32};
    if (saved_) return model::load_model(o_.what, types, backend_.memory);
    return lab::converted(construction_->build(n), types, backend_.memory);
  }

 private:
  const Options& o_;
  const Backend& backend_;
  bool saved_;
  const lab::Construction* construction_ = nullptr;
  std::int64_t built_for_ = 0;
};

// One line on a terminal that overwrites itself.
class Progress {
 public:
  explicit Progress(std::int64_t n) : n_(n), shown_(isatty(STDERR_FILENO) != 0) {}
  ~Progress() {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void operator()(std::int64_t done, std::int64_t total) const {
    if (shown_) fmt::print(stderr, "\rn = {}: {} of {} instances\033[K", n_, done, total);
  }

 private:
  std::int64_t n_;
  bool shown_;
};

std::string accuracy_text(const lab::PathScore& score) {
  return score.right == score.answers ? "1.0" : fmt::format("{:.4f}", score.accuracy());
}

// A line as soon as it is known: a size may take minutes.
void print_row(const std::array<std::string, 8>& cells) {
  for (const auto& cell : cells) fmt::print("{:>{}}", cell, &cell == &cells[1] ? 17 : 9);
  fmt::print("\n");
  std::fflush(stdout);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// One size; true: every answer was right.
bool verify_size(const Options& o, const Backend& backend, const Subject& subject, std::int64_t n) {
  const auto start = std::chrono::steady_clock::now();
  const auto model = subject.model(n);
  const Progress progress(n);
  auto options = o.verify;
  options.instances = o.exhaustive ? lab::Instances::exhaustive : lab::Instances::random;
  options.progress = [&](std::int64_t done, std::int64_t total) { progress(done, total); };
  const auto v = lab::verify(backend, subject.construction(), model, subject.built_for(n), n, options);
  const double margin = std::min({v.forward.margin, v.prefill.margin, v.steps.margin});
  print_row({std::to_string(n), with_commas(v.instances) + (o.exhaustive ? " (all)" : ""),
             with_commas(v.tokens / v.instances), accuracy_text(v.forward), accuracy_text(v.prefill),
             accuracy_text(v.steps), fmt::format("{:.3f}", margin),
             fmt::format("{:.1f}", seconds_since(start))});
  const bool wanted = subject.construction().promise() == lab::Promise::exact;
  if (wanted && !v.all_right()) fmt::print(stderr, "n = {}, wrong: {}\n", n, v.first_wrong);
  return v.all_right();
}

void run(const Options& o) {
  const Backend backend = o.backend.make();
  const Subject subject(o, backend);
  const auto& construction = subject.construction();
  fmt::print("{}: {}\n", construction.name(), construction.summary());
  fmt::print("{}, matrices {}, activations {}\n", backend.description, o.dtype,
             name_of(backend.activation_dtype(o.dtype == "bf16" ? DType::bf16 : DType::f32)));
  std::fflush(stdout);
  print_row({"n", "instances", "tokens", "forward", "prefill", "steps", "margin", "seconds"});
  bool right = true;
  for (const auto n : subject.sizes()) right = verify_size(o, backend, subject, n) && right;
  warn_of_numerical_events(backend);
  if (construction.promise() == lab::Promise::counterexample) {
    fmt::print("a counter-example: it is meant to fail as n grows (docs/theory.md has its table)\n");
  } else if (!right) {
    throw Exit{1};
  }
}

}  // namespace

void add_lab_verify(CLI::App& lab) {
  auto* command =
      lab.add_subcommand("verify", "compare a construction's every answer with the solver's, by three paths");
  auto o = std::make_shared<Options>();
  command
      ->add_option("construction", o->what, "model directory of braid lab build, or " + construction_list())
      ->required();
  command->add_option("--n", o->n, "sizes; default: the directory's own, or the construction's usual ones")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 24));
  command->add_option("--instances", o->verify.count, "random instances of each size")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  command->add_flag("--exhaustive", o->exhaustive, "every instance there is of each size, for small n");
  command->add_option("--seed", o->verify.seed, "of the instances")->capture_default_str();
  command
      ->add_option("--batch-texts", o->verify.batch_texts, "least number of texts that take steps together")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--batch-tokens", o->verify.batch_tokens, "tokens per pass of the other paths")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command->add_option("--dtype", o->dtype, "of the large matrices; on a GPU also what is computed in")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  o->backend.add_to(*command);
  command->callback([o] { run(*o); });
}

}  // namespace braid::app

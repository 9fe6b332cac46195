// One function per subcommand, each in its own file: it declares its options and, when chosen, calls the
// library.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "braid/backends/backends.h"

namespace braid::app {

// Thrown by a command to end the process with a code of its own, neither 0 nor that of an error.
struct Exit {
  int code;
};

// --backend, --threads, --strict: how the work is done, shared by the commands that compute.
struct BackendOptions {
  std::string name = "cpu";
  int threads = 0;
  bool strict = false;
  std::string target;

  void add_to(CLI::App& command);
  Backend make() const;
};

// "17 values were clamped …", of whatever counted them.
std::string saturation_text(std::uint64_t values);
// To standard error, where the backend's arithmetic had to bend something.
void warn_of_numerical_events(const Backend& backend);

// One line of samples.jsonl or scores.jsonl, which `braid report` reads beside the run's curves; whole and
// durable.
void append_line(const std::string& path, const std::string& line);

void add_bench(CLI::App& app);
void add_chat_data(CLI::App& data);  // in add_data
void add_convert(CLI::App& app);
void add_data(CLI::App& app);
void add_dump(CLI::App& app);
void add_eval(CLI::App& app);
void add_generate(CLI::App& app);
void add_gpu_bench(CLI::App& bench);  // in add_bench
void add_inspect(CLI::App& app);
void add_lab(CLI::App& app);
void add_report(CLI::App& app);
void add_soup(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_train(CLI::App& app);

}  // namespace braid::app

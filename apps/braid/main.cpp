// braid: train, study and run hybrid language models.
#include <cstdio>
#include <exception>

#include "command.h"
#include "encodings.h"

namespace {

// One line on standard error, whatever the message holds.
int report(const char* what) {
  fmt::print(stderr, "braid: error: {}\n", what);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("braid: hybrid language models of attention and Gated DeltaNet layers");
  app.require_subcommand(1);
  app.set_version_flag("--version", BRAID_VERSION);
  using namespace braid::app;
  for (const auto add : {add_train, add_eval, add_generate, add_inspect, add_convert, add_soup, add_dump,
                         add_tokenize, add_data, add_lab, add_report, add_bench})
    add(app);
  const auto named = [&](const CLI::App* command) { return command->get_name() == argv[1]; };
  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands(named).empty()) {
    return report(
        fmt::format("there is no command '{}': braid --help lists them", valid_utf8(argv[1])).c_str());
  }
  try {
    app.parse(argc, argv);
    // What still waits in the buffer may not fit the disk.
    braid::require(std::fflush(stdout) == 0 && std::ferror(stdout) == 0, "standard output: writing failed");
    return 0;
  } catch (const Exit& exit) {
    std::fflush(stdout);
    return exit.code;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    return report((std::string(error.what()) + " (braid COMMAND --help lists the options)").c_str());
  } catch (const std::exception& error) {
    return report(error.what());
  }
}

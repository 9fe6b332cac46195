// braid: train, study and run hybrid language models.
#include <cstdio>
#include <exception>

#include "command.h"

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
  for (const auto add : {add_train, add_eval, add_generate, add_inspect, add_convert, add_dump, add_tokenize,
                         add_data, add_bench})
    add(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    return report(error.what());
  }
}

#include "tests/support/files.h"

#include <cstdlib>

namespace braid::test {

std::filesystem::path source_folder() { return BRAID_SOURCE_DIR; }

std::filesystem::path golden(std::string_view name) {
  // Where the tests run on another machine than they were built.
  const char* moved = std::getenv("BRAID_TEST_GOLDEN");
  return (moved != nullptr ? std::filesystem::path(moved) : source_folder() / "tests/golden") / name;
}

}  // namespace braid::test

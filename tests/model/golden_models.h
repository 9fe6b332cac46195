// The published implementation's tiny models, for tests of files and of what is made from them.
#pragma once
#include <string>
#include <vector>

#include "braid/model/weights.h"
#include "tests/support/files.h"

namespace braid::test {

inline std::vector<std::string> golden_cases() {
  return {"hybrid", "hybrid-nope", "hybrid-no-positions", "hybrid-gqa-gva", "olmo3", "olmo3-yarn"};
}
inline model::Model golden_model(const std::string& name, model::ParameterTypes types = {}) {
  return model::load_model(golden(name), types);
}

// call() throws an Error of one line that holds every one of `parts`.
template <class F>
void expect_error(F&& call, const std::vector<std::string>& parts, const std::string& what = {}) {
  SCOPED_TRACE(what);
  const auto message = message_of(call);
  for (const auto& part : parts) EXPECT_HOLDS(message, part);
}

}  // namespace braid::test

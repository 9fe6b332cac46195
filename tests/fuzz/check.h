// What a fuzz target states about its input; a false statement is a finding.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "braid/core/error.h"

namespace braid::fuzz {

inline void check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

// Runs f(); an Error is an answer if it is one line, anything else escapes and is a finding.
template <class F>
void accept_errors(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    check(std::strchr(error.what(), '\n') == nullptr, "errors are one line");
    check(std::strlen(error.what()) < 4000, "errors are short");
  }
}

}  // namespace braid::fuzz

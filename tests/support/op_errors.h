// Errors of ops: one line that names the op and the argument.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "braid/core/error.h"

namespace braid::test {

template <class F>
void expect_op_error(F&& call, std::string_view op, std::string_view argument) {
  try {
    call();
    ADD_FAILURE() << op << " accepted a bad " << argument;
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find(std::string(op) + ": "), 0u) << message;
    EXPECT_NE(message.find(argument), std::string::npos) << "no '" << argument << "' in: " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

}  // namespace braid::test

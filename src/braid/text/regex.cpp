#define PCRE2_CODE_UNIT_WIDTH 8
#include "braid/text/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <limits>

#include "braid/core/error.h"
#include "braid/io/quote.h"

namespace braid::text {
namespace {

constexpr std::size_t kMaxPatternBytes = 1 << 16;
constexpr std::uint32_t kMatchSteps = 10'000'000, kStepsPerByte = 16, kHeapKilobytes = 64 * 1024;
constexpr std::size_t kJitStackBytes = std::size_t{8} << 20;

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  ::pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

using CompileContext = std::unique_ptr<pcre2_compile_context, decltype(&::pcre2_compile_context_free)>;
using MatchContext = std::unique_ptr<pcre2_match_context, decltype(&::pcre2_match_context_free)>;
using MatchData = std::unique_ptr<pcre2_match_data, decltype(&::pcre2_match_data_free)>;
using JitStack = std::unique_ptr<pcre2_jit_stack, decltype(&::pcre2_jit_stack_free)>;

}  // namespace

struct Regex::Scratch::State {
  MatchContext context{::pcre2_match_context_create(nullptr), ::pcre2_match_context_free};
  MatchData data{::pcre2_match_data_create(1, nullptr), ::pcre2_match_data_free};  // of the match as a whole
  JitStack stack{::pcre2_jit_stack_create(32 * 1024, kJitStackBytes, nullptr), ::pcre2_jit_stack_free};
};

Regex::Scratch::Scratch() : state_(std::make_shared<State>()) {
  require(state_->context && state_->data, "out of memory for a regular expression");
  ::pcre2_set_heap_limit(state_->context.get(), kHeapKilobytes);
  if (state_->stack) ::pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->stack.get());
}

Regex::Regex(std::string_view pattern, const std::string& where)
    : Regex(translate_pattern(pattern, where), PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, where) {
}

Regex Regex::literal(std::string_view text, const std::string& where) {
  return Regex(text, PCRE2_LITERAL, where);
}

Regex::Regex(std::string_view pattern, std::uint32_t options, const std::string& where) : where_(where) {
  require(!pattern.empty(), "{}: the pattern is empty", where);
  const CompileContext context{::pcre2_compile_context_create(nullptr), ::pcre2_compile_context_free};
  require(context != nullptr, "out of memory for a regular expression");
  ::pcre2_set_max_pattern_length(context.get(), kMaxPatternBytes);
  ::pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = ::pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                     options | PCRE2_UTF, &error, &offset, context.get());
  require(code != nullptr, "{}: invalid regular expression {} at byte {}: {}", where, io::in_quotes(pattern),
          offset, message_of(error));
  code_ = std::shared_ptr<const void>(code, [](const void* p) {
    ::pcre2_code_free(const_cast<pcre2_code*>(static_cast<const pcre2_code*>(p)));
  });
  ::pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where it fails, matching falls back to the interpreter
}

std::optional<Span> Regex::find(std::string_view text, std::size_t start, Scratch& scratch) const {
  Scratch::State& state = *scratch.state_;
  const std::uint64_t steps =
      std::max<std::uint64_t>(kMatchSteps, kStepsPerByte * std::uint64_t{text.size()});
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  ::pcre2_set_match_limit(state.context.get(), static_cast<std::uint32_t>(std::min(steps, kMost)));
  const auto match =
      [&](std::uint32_t options) {  // the check of the whole text for every match would be quadratic
        return ::pcre2_match(static_cast<const pcre2_code*>(code_.get()),
                             reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start,
                             options | PCRE2_NO_UTF_CHECK, state.data.get(), state.context.get());
      };
  int status = match(0);
  if (status == PCRE2_ERROR_JIT_STACKLIMIT) status = match(PCRE2_NO_JIT);
  if (status == PCRE2_ERROR_NOMATCH) return std::nullopt;
  require(status >= 0, "{}: the regular expression fails at byte {} of a text of {} bytes: {}", where_, start,
          text.size(), message_of(status));
  const PCRE2_SIZE* at = ::pcre2_get_ovector_pointer(state.data.get());
  require(at[0] >= start && at[0] <= at[1], "{}: the regular expression matches backwards", where_);
  return Span{at[0], at[1]};
}

}  // namespace braid::text

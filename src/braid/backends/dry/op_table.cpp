#include "braid/ops/op_table.h"

#include <array>
#include <bit>
#include <utility>

#include "braid/backends/backends.h"

namespace braid::dry {
namespace {

// Converts to a do-nothing function of any op's type.
struct Nothing {
  template <class... Args>
  using Op = void(Args...);
  template <class... Args>
  constexpr operator Op<Args...>*() const {
    return [](Args...) {};
  }
};

// OpTable holds only function pointers, so it can be walked as an array of them.
using Entry = void (*)();
constexpr std::size_t kEntries = sizeof(OpTable) / sizeof(Entry);
using Entries = std::array<Entry, kEntries>;

template <std::size_t... I>
constexpr OpTable all_nothing(std::index_sequence<I...>) {
  return {(static_cast<void>(I), Nothing{})...};
}

}  // namespace

OpTable op_table(const OpTable* scratch) {
  OpTable nothing = all_nothing(std::make_index_sequence<kEntries>{});
  nothing.delta_mixer_step = ops::delta_mixer_step_in_parts;  // for backends that do them so
  nothing.gated_rms_norm_linear_backward = ops::gated_rms_norm_linear_backward_in_parts;
  nothing.swiglu_linear = ops::swiglu_linear_in_parts;
  nothing.swiglu_linear_backward = ops::swiglu_linear_backward_in_parts;
  if (scratch == nullptr) return nothing;
  auto entries = std::bit_cast<Entries>(nothing);
  const auto measured = std::bit_cast<Entries>(*scratch);
  for (std::size_t i = 0; i < kEntries; ++i) {
    if (measured[i] != nullptr) entries[i] = measured[i];
  }
  return std::bit_cast<OpTable>(entries);
}

}  // namespace braid::dry

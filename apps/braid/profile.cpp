#include "profile.h"

#include <algorithm>
#include <chrono>

namespace braid::app {
namespace {

struct ProfileState final : BackendState {
  OpTable ops, dry;
  std::shared_ptr<BackendState> inner;
  std::vector<OpTime> times;  // in the order of install()
};

// Calls one op of the inner backend with the inner state, and adds the time it took to slot `Slot`.
template <auto Entry, std::size_t Slot, class Function = std::remove_reference_t<decltype(OpTable{}.*Entry)>>
struct Timed;

template <auto Entry, std::size_t Slot, class... Args>
struct Timed<Entry, Slot, void (*)(Context&, Args...)> {
  static Context inner(const Context& ctx) {
    Context c = ctx;
    c.state = static_cast<ProfileState&>(*ctx.state).inner.get();
    return c;
  }
  // Now, with nothing left to do on the device.
  static std::chrono::steady_clock::time_point finished(const Context& ctx) {
    ctx.memory->read(nullptr, nullptr, 0);
    return std::chrono::steady_clock::now();
  }
  static void run(Context& ctx, Args... args) {
    auto& state = static_cast<ProfileState&>(*ctx.state);
    Context c = inner(ctx);
    const auto begin = finished(ctx);
    (state.ops.*Entry)(c, args...);
    auto& slot = state.times[Slot];
    slot.seconds += std::chrono::duration<double>(finished(ctx) - begin).count();
    ++slot.calls;
  }
  static void measure(Context& ctx, Args... args) {
    Context c = inner(ctx);
    (static_cast<ProfileState&>(*ctx.state).dry.*Entry)(c, args...);
  }
};

template <auto... Entries, std::size_t... Slots>
void install(Backend& b, std::index_sequence<Slots...>) {
  ((b.ops.*Entries = Timed<Entries, Slots>::run, b.dry.*Entries = Timed<Entries, Slots>::measure), ...);
}

constexpr const char* kNames[] = {"matmul",
                                  "linear_group",
                                  "embedding_forward",
                                  "embedding_backward",
                                  "rms_norm_forward",
                                  "rms_norm_backward",
                                  "gated_rms_norm_forward",
                                  "gated_rms_norm_backward",
                                  "rotary_table",
                                  "rotary",
                                  "attention_forward",
                                  "attention_backward",
                                  "attention_cached",
                                  "short_convolution_forward",
                                  "short_convolution_backward",
                                  "delta_gates_forward",
                                  "delta_gates_backward",
                                  "gated_delta_forward",
                                  "gated_delta_backward",
                                  "delta_mixer_step",
                                  "swiglu_forward",
                                  "swiglu_backward",
                                  "cross_entropy",
                                  "add",
                                  "fill",
                                  "copy",
                                  "gradient_norm",
                                  "tally_step",
                                  "adamw"};

}  // namespace

Backend profiled(const Backend& inner) {
  Backend b = inner;
  auto state = std::make_shared<ProfileState>();
  state->ops = inner.ops;
  state->dry = inner.dry;
  state->inner = inner.state;
  for (const char* name : kNames) state->times.push_back({name, 0, 0});
  b.state = state;
  b.record = {};  // what waits cannot be recorded
  using T = OpTable;
  install<&T::matmul, &T::linear_group, &T::embedding_forward, &T::embedding_backward, &T::rms_norm_forward,
          &T::rms_norm_backward, &T::gated_rms_norm_forward, &T::gated_rms_norm_backward, &T::rotary_table,
          &T::rotary, &T::attention_forward, &T::attention_backward, &T::attention_cached,
          &T::short_convolution_forward, &T::short_convolution_backward, &T::delta_gates_forward,
          &T::delta_gates_backward, &T::gated_delta_forward, &T::gated_delta_backward, &T::delta_mixer_step,
          &T::swiglu_forward, &T::swiglu_backward, &T::cross_entropy, &T::add, &T::fill, &T::copy,
          &T::gradient_norm, &T::tally_step, &T::adamw>(b, std::make_index_sequence<std::size(kNames)>());
  return b;
}

std::vector<OpTime> op_times(const Backend& profiled) {
  auto times = static_cast<const ProfileState&>(*profiled.state).times;
  std::erase_if(times, [](const OpTime& t) { return t.calls == 0; });
  std::ranges::sort(times, std::greater{}, &OpTime::seconds);
  return times;
}

void reset_op_times(const Backend& profiled) {
  for (auto& t : static_cast<ProfileState&>(*profiled.state).times) t = {t.name, 0, 0};
}

}  // namespace braid::app

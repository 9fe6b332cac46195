#include "profile.h"

#include <algorithm>
#include <chrono>
#include <tuple>

namespace braid::app {
namespace {

struct ProfileState final : BackendState {
  OpTable ops, dry;
  std::shared_ptr<BackendState> inner;
  std::vector<OpTime> times;  // in the order of kOps
};

// Calls one op of the inner backend with the inner state, and adds the time it took to slot `Slot`.
template <auto Entry, std::size_t Slot, class Function = std::remove_reference_t<decltype(OpTable{}.*Entry)>>
struct Timed;

template <auto Entry, std::size_t Slot, class... Args>
struct Timed<Entry, Slot, void (*)(Context&, Args...)> {
  // An op made of others finds these in the inner backend's own table: their time is its own.
  static Context inner(const Context& ctx, const OpTable& ops) {
    Context c = ctx;
    c.ops = &ops;
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
    Context c = inner(ctx, state.ops);
    const auto begin = finished(ctx);
    (state.ops.*Entry)(c, args...);
    auto& slot = state.times[Slot];
    slot.seconds += std::chrono::duration<double>(finished(ctx) - begin).count();
    ++slot.calls;
  }
  static void measure(Context& ctx, Args... args) {
    const auto& dry = static_cast<ProfileState&>(*ctx.state).dry;
    Context c = inner(ctx, dry);
    (dry.*Entry)(c, args...);
  }
};

template <auto Entry>
struct NamedOp {
  const char* name;
};
// A name is the entry's own, which only a macro can spell twice.
#define BRAID_OP(name) \
  NamedOp<&OpTable::name> { #name }
constexpr std::tuple kOps{BRAID_OP(matmul),
                          BRAID_OP(linear_group),
                          BRAID_OP(embedding_forward),
                          BRAID_OP(embedding_backward),
                          BRAID_OP(rms_norm_forward),
                          BRAID_OP(rms_norm_backward),
                          BRAID_OP(gated_rms_norm_forward),
                          BRAID_OP(gated_rms_norm_backward),
                          BRAID_OP(gated_rms_norm_linear_backward),
                          BRAID_OP(rotary_table),
                          BRAID_OP(rotary),
                          BRAID_OP(norm_rotary_forward),
                          BRAID_OP(attention_forward),
                          BRAID_OP(attention_backward),
                          BRAID_OP(attention_cached),
                          BRAID_OP(short_convolution_forward),
                          BRAID_OP(short_convolution_backward),
                          BRAID_OP(delta_gates_forward),
                          BRAID_OP(delta_gates_backward),
                          BRAID_OP(gated_delta_forward),
                          BRAID_OP(gated_delta_backward),
                          BRAID_OP(delta_mixer_step),
                          BRAID_OP(swiglu_forward),
                          BRAID_OP(swiglu_backward),
                          BRAID_OP(swiglu_linear),
                          BRAID_OP(swiglu_linear_backward),
                          BRAID_OP(cross_entropy),
                          BRAID_OP(sampling),
                          BRAID_OP(add),
                          BRAID_OP(fill),
                          BRAID_OP(copy),
                          BRAID_OP(gradient_norm),
                          BRAID_OP(tally_step),
                          BRAID_OP(adamw)};
#undef BRAID_OP
static_assert(std::tuple_size_v<decltype(kOps)> * sizeof(void (*)()) == sizeof(OpTable), "an op is missing");

template <auto... Entries, std::size_t... Slots>
void install(Backend& b, const std::tuple<NamedOp<Entries>...>&, std::index_sequence<Slots...>) {
  ((b.ops.*Entries = Timed<Entries, Slots>::run, b.dry.*Entries = Timed<Entries, Slots>::measure), ...);
}

}  // namespace

Backend profiled(const Backend& inner) {
  Backend b = inner;
  auto state = std::make_shared<ProfileState>();
  state->ops = inner.ops;
  state->dry = inner.dry;
  state->inner = inner.state;
  b.state = state;
  b.record = {};  // what waits cannot be recorded
  std::apply([&](auto... op) { (state->times.push_back({op.name, 0, 0}), ...); }, kOps);
  install(b, kOps, std::make_index_sequence<std::tuple_size_v<decltype(kOps)>>());
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

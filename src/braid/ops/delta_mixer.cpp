#include "braid/ops/delta_mixer.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {

void delta_mixer_step(Context& ctx, Tensor y, DeltaMixerStates states, DeltaMixerInputs in, Segments segments,
                      DeltaMixerOptions options) {
  const Checker check("delta_mixer_step");
  check.rank("projected", in.projected, 2);
  check.rank("delta state", states.delta, 4);
  check.rank("convolution", in.convolution, 2);
  const auto dtype = in.projected.dtype, precise = accumulator_of(dtype);
  const auto S = in.projected.shape[0], C = in.projected.shape[1], W = in.convolution.shape[1];
  const auto Hv = states.delta.shape[1], Dk = states.delta.shape[2], Dv = states.delta.shape[3];
  check.that(segments.count() == S && segments.longest == 1,
             "{} segments, the longest {}, of {} tokens: "
             "expected one token each",
             segments.count(), segments.longest, S);
  const auto keys = (C - Hv * Dv) / 2;
  check.that(keys > 0 && Dk > 0 && C == 2 * keys + Hv * Dv && keys % Dk == 0 && Hv % (keys / Dk) == 0,
             "{} projected channels do not fit a delta state {}", C, describe(states.delta));
  check.tensor("delta state", states.delta, precise, {S, Hv, Dk, Dv});
  check.tensor("convolution state", states.convolution, dtype, {S, W - 1, C});
  check.tensor("ab", in.ab, precise, {S, 2 * Hv});
  check.tensor("gate", in.gate, dtype, {S, Hv * Dv});
  check.tensor("convolution", in.convolution, precise, {C, W});
  check.tensor("a_log", in.a_log, precise, {Hv});
  check.tensor("dt_bias", in.dt_bias, precise, {Hv});
  check.tensor("norm", in.norm, precise, {Dv});
  check.tensor("y", y, dtype, {S, Hv * Dv});
  implementation<&OpTable::delta_mixer_step>(ctx)(ctx, y, states, in, segments, options);
}

void delta_mixer_step_in_parts(Context& ctx, Tensor y, DeltaMixerStates states, DeltaMixerInputs in,
                               Segments segments, DeltaMixerOptions options) {
  const Arena::Scope scope(*ctx.scratch);
  const auto dtype = in.projected.dtype, precise = accumulator_of(dtype);
  const auto S = in.projected.shape[0], C = in.projected.shape[1];
  const auto Hv = states.delta.shape[1], Dk = states.delta.shape[2], Dv = states.delta.shape[3];
  const auto keys = (C - Hv * Dv) / 2, Hk = keys / Dk;
  const auto make = [&](DType t, const Shape& shape) { return ctx.scratch->make(t, shape); };
  const Tensor q = make(dtype, {S, keys}), k = make(dtype, {S, keys}), v = make(dtype, {S, Hv * Dv}),
               mixed = make(dtype, {S, Hv, Dv}), log_decay = make(precise, {S, Hv}),
               beta = make(precise, {S, Hv}), inverse_rms = make(precise, {S * Hv});
  short_convolution_forward(ctx, {q, k, v}, states.convolution, in.projected, in.convolution, segments);
  delta_gates_forward(ctx, log_decay, beta, {in.ab, in.a_log, in.dt_bias},
                      {.beta_scale = options.beta_scale});
  gated_delta_forward(
      ctx, mixed, Tensor{}, {states.delta, states.delta},
      {reshaped(q, {S, Hk, Dk}), reshaped(k, {S, Hk, Dk}), reshaped(v, {S, Hv, Dv}), log_decay, beta},
      segments, {});
  const Shape heads{S * Hv, Dv};
  gated_rms_norm_forward(ctx, reshaped(y, heads), inverse_rms, reshaped(mixed, heads),
                         reshaped(in.gate, heads), in.norm, {.epsilon = options.epsilon});
}

}  // namespace braid::ops

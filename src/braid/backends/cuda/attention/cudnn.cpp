#include "braid/backends/cuda/attention/cudnn.h"

#define CUDNN_FRONTEND_SKIP_JSON_LIB  // it would bring its own copy of nlohmann-json
#include <cudnn_frontend.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <map>
#include <unordered_map>

#include "braid/backends/cuda/attention/cudnn_problem.h"
#include "braid/backends/cuda/attention/sequence_tables.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {
namespace {

namespace fe = cudnn_frontend;
using Graph = fe::graph::Graph;
using Attributes = fe::graph::Tensor_attributes;
using TensorPointer = std::shared_ptr<Attributes>;

using cudnn::Problem;

enum Uid : std::int64_t {
  kQ = 1,
  kK,
  kV,
  kY,
  kStatistics,
  kDy,
  kDq,
  kDk,
  kDv,
  kLengthsQ,
  kLengthsKv,
  kBeginQ,
  kBeginKv,
  kBeginStatistics
};

void check(fe::error_t status, const char* step, const Problem& p) {
  if (!status.is_bad()) return;
  std::string message = status.get_message();
  std::replace(message.begin(), message.end(), '\n', ' ');
  const char* form = p.packed ? "packed" : "dense";
  if (p.capacity > 0) form = "cached";
  fail("attention: cuDNN {} {}: {} ({} sequences of {}, heads {}/{} of width {}, window {}, {})", step,
       p.backward ? "backward" : "forward", message, p.sequences, p.longest, p.heads, p.kv_heads, p.width,
       p.window, form);
}

// A graph under construction: cuDNN's (B, H, S, D) views of our (N, H, D) tensors.
struct Builder {
  const Problem& p;
  Graph& graph;
  TensorPointer begin_q{}, begin_kv{}, begin_statistics{}, lengths_q{}, lengths_kv{};

  TensorPointer table(Uid uid, const char* name, std::int64_t size) {
    return graph.tensor(Attributes()
                            .set_uid(uid)
                            .set_name(name)
                            .set_dim({size, 1, 1, 1})
                            .set_stride({1, 1, 1, 1})
                            .set_data_type(fe::DataType_t::INT32));
  }
  void make_tables() {
    if (!p.packed) return;
    begin_q = table(kBeginQ, "begin_q", p.sequences + 1);
    if (p.capacity == 0) {
      begin_kv = table(kBeginKv, "begin_kv", p.sequences + 1);
      begin_statistics = table(kBeginStatistics, "begin_statistics", p.sequences + 1);
    }
    lengths_q = table(kLengthsQ, "lengths_q", p.sequences);
    lengths_kv = table(kLengthsKv, "lengths_kv", p.sequences);
  }
  void describe_heads(Attributes& t, Uid uid, const char* name, bool query) const {
    const std::int64_t all = query ? p.all_heads : p.all_kv_heads;
    const bool cached = !query && p.capacity > 0;
    const std::int64_t tokens = cached ? p.capacity : p.longest;
    t.set_uid(uid).set_name(name).set_data_type(fe::DataType_t::BFLOAT16);
    t.set_dim({p.sequences, query ? p.heads : p.kv_heads, tokens, p.width});
    t.set_stride({tokens * all * p.width, p.width, all * p.width, 1});
    if (p.packed && !cached) t.set_ragged_offset(query ? begin_q : begin_kv);
  }
  TensorPointer input(Uid uid, const char* name, bool query) {
    Attributes t;
    describe_heads(t, uid, name, query);
    return graph.tensor(t);
  }
  // (N, H), except that backward reads dense statistics as (B, H, S) only.
  void describe_statistics(Attributes& t) const {
    const std::int64_t heads = p.backward ? p.heads : p.all_heads;
    t.set_uid(kStatistics).set_name("statistics").set_data_type(fe::DataType_t::FLOAT);
    t.set_dim({p.sequences, p.heads, p.longest, 1});
    if (p.backward && !p.packed) {
      t.set_stride({heads * p.longest, p.longest, 1, 1});
    } else {
      t.set_stride({heads * p.longest, 1, heads, 1});
    }
    if (p.packed) t.set_ragged_offset(begin_statistics);
  }
  void output(const TensorPointer& t, Uid uid, const char* name, bool query) const {
    t->set_output(true);
    describe_heads(*t, uid, name, query);
  }

  // cuDNN's left bound lets row i see columns j with j + bound > i: itself and bound - 1 before it, as our
  // window. With a cache the last query sees the last key, else the first the first.
  template <class Options>
  Options& mask(Options& options) const {
    options.set_attn_scale(p.scale).set_diagonal_alignment(
        p.capacity > 0 ? fe::DiagonalAlignment_t::BOTTOM_RIGHT : fe::DiagonalAlignment_t::TOP_LEFT);
    options.set_diagonal_band_right_bound(0);
    if (p.window > 0) options.set_diagonal_band_left_bound(static_cast<int>(p.window));
    if (p.packed) options.set_padding_mask(true).set_seq_len_q(lengths_q).set_seq_len_kv(lengths_kv);
    return options;
  }

  void forward() {
    make_tables();
    auto options = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(p.capacity == 0);
    const auto [y, statistics] =
        graph.sdpa(input(kQ, "q", true), input(kK, "k", false), input(kV, "v", false), mask(options));
    output(y, kY, "y", true);
    if (p.capacity > 0) return;
    statistics->set_output(true);
    describe_statistics(*statistics);
  }

  void backward() {
    make_tables();
    auto options = fe::graph::SDPA_backward_attributes().set_name("attention_backward");
    options.set_deterministic_algorithm(true);
    if (p.packed) options.set_max_total_seq_len_q(p.tokens).set_max_total_seq_len_kv(p.tokens);
    Attributes statistics;
    describe_statistics(statistics);
    const auto [dq, dk, dv] = graph.sdpa_backward(
        input(kQ, "q", true), input(kK, "k", false), input(kV, "v", false), input(kY, "y", true),
        input(kDy, "dy", true), graph.tensor(statistics), mask(options));
    output(dq, kDq, "dq", true);
    output(dk, kDk, "dk", false);
    output(dv, kDv, "dv", false);
  }
};

struct Plan {
  std::unique_ptr<Graph> graph = std::make_unique<Graph>();
  std::int64_t workspace = 0;  // bytes
};

Plan make_plan(cudnnHandle_t handle, const Problem& p) {
  Plan plan;
  plan.graph->set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  Builder builder{.p = p, .graph = *plan.graph};
  if (p.backward) {
    builder.backward();
  } else {
    builder.forward();
  }
  check(plan.graph->build(handle, {fe::HeurMode_t::A}), "cannot build", p);
  check(plan.graph->get_workspace_size(plan.workspace), "cannot size", p);
  return plan;
}

}  // namespace

struct AttentionPlans {
  cudnnHandle_t handle = nullptr;
  std::map<Problem, Plan> plans;

  explicit AttentionPlans(cudaStream_t stream) {
    check_cudnn(cudnnCreate(&handle));
    check_cudnn(cudnnSetStream(handle, stream));
  }
  ~AttentionPlans() {
    plans.clear();
    cudnnDestroy(handle);
  }
  AttentionPlans(const AttentionPlans&) = delete;
  AttentionPlans& operator=(const AttentionPlans&) = delete;

  static void check_cudnn(cudnnStatus_t status) {
    if (status != CUDNN_STATUS_SUCCESS) fail("attention: cuDNN says {}", cudnnGetErrorString(status));
  }
};

namespace {

AttentionPlans& plans_of(const Context& ctx) {
  State& state = state_of(ctx);
  if (!state.attention_plans) {
    state.attention_plans = {new AttentionPlans(state.stream), [](AttentionPlans* plans) { delete plans; }};
  }
  return *state.attention_plans;
}

const Plan& plan_of(const Context& ctx, const Problem& p) {
  AttentionPlans& all = plans_of(ctx);
  const auto at = all.plans.find(p);
  if (at != all.plans.end()) return at->second;
  return all.plans.emplace(p, make_plan(all.handle, p)).first->second;
}

struct Scratch {
  SequenceTables tables;
  Tensor totals;  // lengths with what the cache holds
  Tensor statistics, workspace;
};

// A dense problem makes tables too, and does not use them: it may be the largest of a session, which plans by
// that, while a smaller one is packed.
Scratch make_scratch(Context& ctx, const Problem& p, const Plan& plan) {
  Scratch s;
  const auto most = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(p.sequences)));
  s.tables.lengths = ctx.scratch->make(DType::i32, {p.packed ? p.sequences : most});
  for (Tensor* t : {&s.tables.begin_q, &s.tables.begin_kv, &s.tables.begin_statistics}) {
    *t = ctx.scratch->make(DType::i32, {most + 1});
  }
  if (p.capacity > 0) s.totals = ctx.scratch->make(DType::i32, {p.sequences});
  if (p.backward) s.statistics = ctx.scratch->make(DType::f32, {p.all_heads, p.tokens});
  s.workspace = ctx.scratch->make(DType::u8, {plan.workspace});
  return s;
}

// Device pointers by uid; those of the tables are the same for all groups of heads.
using Pointers = std::unordered_map<std::int64_t, void*>;

Pointers table_pointers(const Context& ctx, const Problem& p, const Scratch& s,
                        const ops::Segments& segments) {
  if (!p.packed) return {};
  make_sequence_tables(ctx, s.tables, segments,
                       {.q = p.all_heads * p.width,
                        .kv = p.all_kv_heads * p.width,
                        .statistics = p.backward ? p.heads : p.all_heads});
  return {{kLengthsQ, s.tables.lengths.mutable_data()},
          {kLengthsKv, s.tables.lengths.mutable_data()},
          {kBeginQ, s.tables.begin_q.mutable_data()},
          {kBeginKv, s.tables.begin_kv.mutable_data()},
          {kBeginStatistics, s.tables.begin_statistics.mutable_data()}};
}

void* shifted(const ConstTensor& t, std::int64_t elements) {
  return static_cast<std::byte*>(const_cast<void*>(t.data)) +
         elements * static_cast<std::int64_t>(size_of(t.dtype));
}

void require_supported(const char* op, bool supported, const ops::AttentionInputs& in) {
  require(supported, "{}: cuDNN does not cover q {} with k {} here", op, describe(in.q), describe(in.k));
}

}  // namespace

namespace cudnn {

// Of one tensor: packed sequences begin at 32-bit offsets.
constexpr std::int64_t kMostElements = std::numeric_limits<std::int32_t>::max();

std::size_t version() { return cudnnGetVersion(); }

bool supports_forward(const ops::AttentionInputs& in, const ops::Segments& segments,
                      const ops::AttentionOptions&) {
  const std::int64_t N = in.q.shape[0], D = in.q.shape[2];
  return in.q.dtype == DType::bf16 && N > 0 && in.q.shape[1] > 0 && segments.count() > 0 && D > 0 &&
         D % 8 == 0 && D <= 256 && in.q.count() <= kMostElements;
}

bool supports(const ops::AttentionInputs& in, const ops::Segments& segments,
              const ops::AttentionOptions& options) {
  if (!supports_forward(in, segments, options) || in.q.shape[2] > 128) return false;
  const Problem p = problem_of(in, segments, options, true);
  return score_bytes(p) <= kMostScoreBytes;
}

void forward(Context& ctx, Tensor y, Tensor log_sum_exp, ops::AttentionInputs in, ops::Segments segments,
             ops::AttentionOptions options) {
  require_supported("attention_forward", supports_forward(in, segments, options), in);
  const Problem p = problem_of(in, segments, options, false);
  const Plan& plan = plan_of(ctx, p);
  const Arena::Scope scope(*ctx.scratch);
  const Scratch s = make_scratch(ctx, p, plan);
  Pointers pointers = table_pointers(ctx, p, s, segments);
  pointers.insert({{kQ, shifted(in.q, 0)},
                   {kK, shifted(in.k, 0)},
                   {kV, shifted(in.v, 0)},
                   {kY, y.mutable_data()},
                   {kStatistics, log_sum_exp.mutable_data()}});
  check(plan.graph->execute(plans_of(ctx).handle, pointers, s.workspace.mutable_data()), "cannot run", p);
}

void forward_scratch(Context& ctx, Tensor, Tensor, ops::AttentionInputs in, ops::Segments segments,
                     ops::AttentionOptions options) {
  require_supported("attention_forward", supports_forward(in, segments, options), in);
  const Problem p = problem_of(in, segments, options, false);
  const Arena::Scope scope(*ctx.scratch);
  make_scratch(ctx, p, plan_of(ctx, p));
}

bool supports_cached(const ops::AttentionInputs& in, const ops::KeyValueCache& cache,
                     const ops::Segments& segments, const ops::AttentionOptions& options) {
  if (!supports_forward(in, segments, options) || cache.k.count() > kMostElements) return false;
  if (options.window == 0) return true;
  const std::int64_t added = segments.longest > 0 ? segments.longest : in.q.shape[0];
  return cache.longest.has_value() && *cache.longest + added <= cache.k.shape[1];
}

void forward_cached(Context& ctx, Tensor y, ops::KeyValueCache cache, ops::AttentionInputs in,
                    ops::Segments segments, ConstTensor lengths, ops::AttentionOptions options) {
  require_supported("attention_cached", supports_cached(in, cache, segments, options), in);
  const Problem p = cached_problem_of(in, cache, segments, options);
  const Plan& plan = plan_of(ctx, p);
  const Arena::Scope scope(*ctx.scratch);
  const Scratch s = make_scratch(ctx, p, plan);
  Pointers pointers = table_pointers(ctx, p, s, segments);
  make_totals(ctx, s.totals, segments, lengths, p.capacity);
  clear_unused(ctx, cache, s.totals);
  pointers.erase(kBeginKv);
  pointers.erase(kBeginStatistics);
  pointers[kLengthsKv] = s.totals.mutable_data();
  pointers.insert({{kQ, shifted(in.q, 0)},
                   {kK, cache.k.mutable_data()},
                   {kV, cache.v.mutable_data()},
                   {kY, y.mutable_data()}});
  check(plan.graph->execute(plans_of(ctx).handle, pointers, s.workspace.mutable_data()), "cannot run", p);
}

void forward_cached_scratch(Context& ctx, ops::KeyValueCache cache, ops::AttentionInputs in,
                            ops::Segments segments, ops::AttentionOptions options) {
  require_supported("attention_cached", supports_cached(in, cache, segments, options), in);
  const Problem p = cached_problem_of(in, cache, segments, options);
  const Arena::Scope scope(*ctx.scratch);
  make_scratch(ctx, p, plan_of(ctx, p));
}

void backward(Context& ctx, ops::AttentionGradients grads, ConstTensor dy, ops::AttentionInputs in,
              ops::AttentionOutputs out, ops::Segments segments, ops::AttentionOptions options) {
  require_supported("attention_backward", supports(in, segments, options), in);
  const Problem p = problem_of(in, segments, options, true);
  const Plan& plan = plan_of(ctx, p);
  const Arena::Scope scope(*ctx.scratch);
  const Scratch s = make_scratch(ctx, p, plan);
  const Pointers tables = table_pointers(ctx, p, s, segments);
  group_statistics(ctx, s.statistics, out.log_sum_exp, p.heads, p.tokens, p.packed ? 0 : p.longest);
  for (std::int64_t call = 0; call < p.calls(); ++call) {
    const std::int64_t q = call * p.heads * p.width, kv = call * p.kv_heads * p.width;
    Pointers pointers = tables;
    pointers.insert({{kQ, shifted(in.q, q)},
                     {kK, shifted(in.k, kv)},
                     {kV, shifted(in.v, kv)},
                     {kY, shifted(out.y, q)},
                     {kStatistics, shifted(s.statistics, call * p.tokens * p.heads)},
                     {kDy, shifted(dy, q)},
                     {kDq, shifted(grads.q, q)},
                     {kDk, shifted(grads.k, kv)},
                     {kDv, shifted(grads.v, kv)}});
    check(plan.graph->execute(plans_of(ctx).handle, pointers, s.workspace.mutable_data()), "cannot run", p);
  }
}

void backward_scratch(Context& ctx, ops::AttentionGradients, ConstTensor, ops::AttentionInputs in,
                      ops::AttentionOutputs, ops::Segments segments, ops::AttentionOptions options) {
  require_supported("attention_backward", supports(in, segments, options), in);
  const Problem p = problem_of(in, segments, options, true);
  const Arena::Scope scope(*ctx.scratch);
  make_scratch(ctx, p, plan_of(ctx, p));
}

}  // namespace cudnn

}  // namespace braid::cuda

#include <limits>
#include <nlohmann/json.hpp>

#include "braid/io/quote.h"
#include "braid/model/config_file.h"
#include "braid/model/counts.h"
#include "braid/model/presets.h"
#include "braid/model/session.h"
#include "command.h"
#include "table.h"

namespace braid::app {
namespace {

using Json = nlohmann::ordered_json;
using model::LayerType, model::ModelConfig, model::DeltaForm;

struct Options {
  std::string what;
  bool list = false, json = false;
  std::int64_t batch = 1, length = 0;
  std::vector<std::uint64_t> contexts{2048, 8192, 32768, 65536};
  BackendOptions backend;
};

constexpr std::int64_t kDefaultLength = 4096;
constexpr std::uint64_t kLongestContext = std::uint64_t{1} << 40;

// Everything that is shown, as text or JSON.
struct Report {
  std::string name;
  ModelConfig config;
  std::int64_t batch, length;
  std::vector<std::int64_t> contexts{};
  model::ParameterCounts parameters{};
  model::TokenMacs recurrent{}, chunked{};
  model::TrainingBytes kept{}, recomputed{};
};

struct Part {
  std::string_view label, key;
  std::int64_t parameters;
};
std::vector<Part> parts_of(const model::ParameterCounts& p) {
  return {{"input embedding", "embedding", p.embedding},
          {"attention", "attention", p.attention},
          {"Gated DeltaNet", "linear_attention", p.linear},
          {"MLP", "mlp", p.mlp},
          {"norms", "norms", p.norms},
          {"output head", "head", p.head}};
}

double layer_state(const ModelConfig& c, LayerType type, std::int64_t context) {
  return static_cast<double>(c.count(type) * model::state_bytes(c, type, context, DType::f32).total());
}
double state_of(const ModelConfig& c, std::int64_t context) {
  double sum = 0;
  for (const auto type :
       {LayerType::linear_attention, LayerType::full_attention, LayerType::sliding_attention}) {
    sum += layer_state(c, type, context);
  }
  return sum;
}
// The same depth and width with full multi-head attention in every layer.
ModelConfig full_attention_stack(const ModelConfig& c) {
  ModelConfig full = c;
  for (auto& type : full.layers) type = LayerType::full_attention;
  if (!c.has_attention()) full.attention.heads = 1, full.attention.head_dim = c.hidden_size;
  full.attention.kv_heads = full.attention.heads;
  return full;
}

std::string length_name(std::int64_t tokens) {
  return tokens % 1024 == 0 ? fmt::format("{}K", tokens / 1024) : std::to_string(tokens);
}

std::string pattern(const ModelConfig& c) {
  std::string out;
  for (std::size_t i = 0; i < c.layers.size(); ++i) {
    if (i != 0 && i % 4 == 0) out += ' ';
    out += "GFS"[static_cast<std::size_t>(c.layers[i])];
  }
  return out;
}

void print_shape(const Report& r) {
  const auto& c = r.config;
  fmt::print("{}: {}, {} layers, hidden size {}, MLP {}, vocabulary {}, {} embeddings\n", r.name,
             model::model_type_of(c), c.layers.size(), c.hidden_size, c.intermediate_size, c.vocabulary_size,
             c.tied_embeddings ? "tied" : "untied");
  if (c.has_attention()) {
    const auto& a = c.attention;
    fmt::print("  attention: {} heads of {}, {} key/value heads{}\n", a.heads, a.head_dim, a.kv_heads,
               c.count(LayerType::sliding_attention) != 0 ? fmt::format(", window {}", a.window) : "");
  }
  if (c.has_linear()) {
    const auto& l = c.linear;
    fmt::print("  Gated DeltaNet: {} key heads of {}, {} value heads of {}, convolution {}\n", l.key_heads,
               l.key_dim, l.value_heads, l.value_dim, l.convolution_width);
  }
  fmt::print("  layers: {}  (G Gated DeltaNet, F full attention, S sliding attention)\n", pattern(c));
}

void print_parameters(const Report& r) {
  const auto total = static_cast<double>(r.parameters.total());
  Table table({"parameters", "", "share"});
  const auto row = [&](std::string_view label, std::int64_t n) {
    table.add(
        {std::string(label), with_commas(n), fmt::format("{:.1f} %", 100 * static_cast<double>(n) / total)});
  };
  for (const auto& part : parts_of(r.parameters)) row(part.label, part.parameters);
  row("total", r.parameters.total());
  row("without input embedding (N)", r.parameters.without_embedding());
  fmt::print("\n{}", table.text());
}

void print_flops(const Report& r) {
  Table table({fmt::format("FLOPs per token at length {}", length_name(r.length)), "forward recurrent",
               "forward chunked", "training"});
  const auto row = [&](std::string label, double recurrent, double chunked) {
    table.add({std::move(label), decimal_size(2 * recurrent), decimal_size(2 * chunked),
               decimal_size(6 * chunked)});
  };
  row("attention", r.recurrent.attention, r.chunked.attention);
  row("Gated DeltaNet", r.recurrent.linear, r.chunked.linear);
  row("MLP", r.recurrent.mlp, r.chunked.mlp);
  row("output head", r.recurrent.head, r.chunked.head);
  row("total", r.recurrent.total(), r.chunked.total());
  fmt::print("\n{}", table.text());
}

void print_training(const Report& r) {
  Table table({fmt::format("training memory, {} x {} tokens, f32", r.batch, r.length), "all kept",
               "block recompute"});
  const auto row = [&](std::string label, std::size_t kept, std::size_t recomputed) {
    table.add({std::move(label), binary_size(static_cast<double>(kept)),
               binary_size(static_cast<double>(recomputed))});
  };
  const auto &a = r.kept, &b = r.recomputed;
  row("parameters", a.parameters, b.parameters);
  row("gradients", a.gradients, b.gradients);
  row("optimizer (AdamW)", a.optimizer, b.optimizer);
  row("activations", a.activations, b.activations);
  row("scratch", a.scratch, b.scratch);
  row("rotary tables", a.rotary, b.rotary);
  row("total", a.total(), b.total());
  fmt::print("\n{}", table.text());
}

std::vector<std::string> context_header(std::string title, const Report& r) {
  std::vector<std::string> header{std::move(title)};
  for (const auto n : r.contexts) header.push_back(length_name(n));
  return header;
}

void print_state(const Report& r) {
  const auto full = full_attention_stack(r.config);
  Table table(context_header("decode state per sequence, f32", r));
  const auto row = [&](std::string label, auto&& value) {
    std::vector<std::string> cells{std::move(label)};
    for (const auto n : r.contexts) cells.push_back(value(n));
    table.add(std::move(cells));
  };
  for (const auto type :
       {LayerType::linear_attention, LayerType::full_attention, LayerType::sliding_attention}) {
    if (r.config.count(type) == 0) continue;
    row(fmt::format("{} x {}", r.config.count(type), name_of(type)),
        [&](std::int64_t n) { return binary_size(layer_state(r.config, type, n)); });
  }
  row("total", [&](std::int64_t n) { return binary_size(state_of(r.config, n)); });
  row(fmt::format("{} x full attention, all heads", full.layers.size()),
      [&](std::int64_t n) { return binary_size(state_of(full, n)); });
  row("ratio",
      [&](std::int64_t n) { return fmt::format("{:.2f}x", state_of(full, n) / state_of(r.config, n)); });
  fmt::print("\n{}", table.text());
}

// The paper's Table 1: Olmo 3's attention (32 heads of 128) against one recurrent state, two bytes a number.
struct LayerState {
  std::string label;
  std::int64_t kv_heads, window;
  double bytes(std::int64_t context) const {
    const auto visible = window == 0 ? context : std::min(context, window);
    return 2.0 * 2 * 128 * static_cast<double>(kv_heads * visible);
  }
};
std::vector<LayerState> table1_layers() {
  return {{"full attention, 32 key/value heads", 32, 0},
          {"full attention, 8 key/value heads", 8, 0},
          {"sliding attention 4096, 8 key/value heads", 8, 4096}};
}
double delta_state_16bit(const ModelConfig& c) {
  return 2.0 * static_cast<double>(c.linear.value_heads * c.linear.key_dim * c.linear.value_dim);
}

void print_table1(const Report& r) {
  if (!r.config.has_linear()) return;
  const auto& l = r.config.linear;
  const double delta = delta_state_16bit(r.config);
  Table table(context_header("state of one layer, 16-bit", r));
  for (const auto& layer : table1_layers()) {
    std::vector<std::string> cells{layer.label};
    for (const auto n : r.contexts) {
      cells.push_back(fmt::format("{} ({:.3g}x)", binary_size(layer.bytes(n)), layer.bytes(n) / delta));
    }
    table.add(std::move(cells));
  }
  std::vector<std::string> cells{
      fmt::format("Gated DeltaNet, {} x {} x {}", l.value_heads, l.key_dim, l.value_dim)};
  for (std::size_t i = 0; i < r.contexts.size(); ++i) cells.push_back(binary_size(delta));
  table.add(std::move(cells));
  fmt::print("\n{}", table.text());
}

Json bytes_json(const model::TrainingBytes& b) {
  return {{"parameters", b.parameters}, {"gradients", b.gradients},
          {"optimizer", b.optimizer},   {"activations", b.activations},
          {"scratch", b.scratch},       {"rotary", b.rotary},
          {"total", b.total()}};
}

Json to_json(const Report& r) {
  Json j{{"name", r.name}, {"config", Json::parse(model::write_config(r.config, "float32"))}};
  for (const auto& part : parts_of(r.parameters)) j["parameters"][part.key] = part.parameters;
  j["parameters"]["total"] = r.parameters.total();
  j["parameters"]["without_embedding"] = r.parameters.without_embedding();
  const double recurrent = 2 * r.recurrent.total(), chunked = 2 * r.chunked.total();
  j["flops_per_token"] = {{"length", r.length},
                          {"forward_recurrent", recurrent},
                          {"forward_chunked", chunked},
                          {"training", 3 * chunked}};
  j["training_bytes"] = {{"batch", r.batch},
                         {"length", r.length},
                         {"kept", bytes_json(r.kept)},
                         {"block_recompute", bytes_json(r.recomputed)}};
  const auto full = full_attention_stack(r.config);
  for (const auto n : r.contexts) {
    Json state{{"length", n}};
    for (const auto type :
         {LayerType::linear_attention, LayerType::full_attention, LayerType::sliding_attention}) {
      state[std::string(name_of(type))] = layer_state(r.config, type, n);
    }
    state["total"] = state_of(r.config, n);
    state["full_attention_stack"] = state_of(full, n);
    j["decode_state_bytes"].push_back(std::move(state));
  }
  return j;
}

ModelConfig find_config(const std::string& what) {
  if (io::fs::exists(what)) return model::read_config(what);
  if (auto config = model::preset(what)) return *config;
  fail("{} is neither a file, a model directory nor a preset{} ('braid inspect --list' prints them)",
       io::in_quotes(what), io::did_you_mean(what, model::preset_names()));
}

void print_list() {
  Table table({"preset", "layers", "hidden", "parameters", "N"});
  for (const auto& name : model::preset_names()) {
    const auto config = *model::preset(name);
    const auto n = model::count_parameters(config);
    table.add({name, std::to_string(config.layers.size()), std::to_string(config.hidden_size),
               with_commas(n.total()), with_commas(n.without_embedding())});
  }
  fmt::print("{}", table.text());
}

Report make_report(const Options& o) {
  Report r{.name = o.what, .config = find_config(o.what), .batch = o.batch, .length = o.length};
  for (const auto n : o.contexts) r.contexts.push_back(static_cast<std::int64_t>(n));
  if (r.length == 0) r.length = std::min(r.config.max_positions, kDefaultLength);
  require(r.batch <= std::numeric_limits<std::int32_t>::max() / r.length,
          "--batch {} of --length {} is more tokens than one step can hold", r.batch, r.length);
  r.parameters = model::count_parameters(r.config);
  r.recurrent = model::count_macs(r.config, r.length, DeltaForm::recurrent);
  r.chunked = model::count_macs(r.config, r.length, DeltaForm::chunked);
  const Backend backend = o.backend.make();
  r.kept = model::measure_training(backend, r.config, r.batch, r.length, {});
  r.recomputed = model::measure_training(backend, r.config, r.batch, r.length,
                                         {.keep = model::KeepPlan::all_blocks(nn::Keep::input)});
  return r;
}

void run(const Options& o) {
  if (o.list) return print_list();
  require(!o.what.empty(), "give a preset, a config.json or a model directory, or --list");
  const auto r = make_report(o);
  if (o.json) {
    fmt::print("{}\n", to_json(r).dump(2));
    return;
  }
  print_shape(r);
  print_parameters(r);
  print_flops(r);
  print_training(r);
  print_state(r);
  print_table1(r);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto* command = app.add_subcommand("inspect", "parameters, FLOPs and memory of a preset, config or model");
  auto o = std::make_shared<Options>();
  command->add_option("model", o->what, "preset, config.json or model directory");
  command->add_flag("--list", o->list, "print the presets");
  command->add_option("--batch", o->batch, "sequences in a training step")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  command->add_option("--length", o->length, "tokens in each, 0: the model's limit, at most 4096")
      ->check(CLI::Range(0, 1 << 24));
  command->add_option("--context", o->contexts, "lengths for the decode state, as in 2K,32K")
      ->delimiter(',')
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(std::uint64_t{1}, kLongestContext))
      ->capture_default_str();
  command->add_flag("--json", o->json, "everything as one JSON object");
  o->backend.add_to(*command);
  command->callback([o] { run(*o); });
}

}  // namespace braid::app

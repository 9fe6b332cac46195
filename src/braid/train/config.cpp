#include "braid/train/config.h"

#include <cmath>
#include <numbers>
#include <sstream>

#include "braid/model/config_file.h"
#include "braid/model/presets.h"

namespace braid::train {
namespace {

using io::TomlFields;

constexpr std::int64_t kMaxCount = std::int64_t{1} << 40, kMaxSize = std::int64_t{1} << 24;

template <class T>
T choose(const TomlFields& f, std::string_view key, std::string_view fallback,
         std::initializer_list<std::pair<std::string_view, T>> choices) {
  const auto text = f.string_or(key, fallback);
  std::string names;
  for (const auto& [name, value] : choices) {
    if (text == name) return value;
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  f.reject(key, fmt::format("is '{}', expected one of {}", text, names));
}

std::vector<fs::path> paths(const TomlFields& f, std::string_view key) {
  std::vector<fs::path> out;
  if (!f.has(key)) return out;
  for (const auto& text : f.strings(key)) out.emplace_back(text);
  return out;
}

DataConfig read_data(const TomlFields& f, const fs::path& run_folder) {
  DataConfig d;
  d.documents = paths(f, "documents");
  d.train = paths(f, "train");
  d.validation = paths(f, "validation");
  if (d.documents.empty() == d.train.empty()) {
    f.reject("documents", "or 'train' must be given, and not both: text documents, or token files");
  }
  if (!d.documents.empty() && !d.validation.empty()) {
    f.reject("validation",
             "goes with 'train'; with 'documents', 'validation_fraction' sets some of them apart");
  }
  for (const auto* key : {"folder", "validation_fraction"}) {
    if (d.documents.empty() && f.has(key)) f.reject(key, "goes with 'documents'; 'train' names token files");
  }
  d.folder = f.string_or("folder", (run_folder / "data").string());
  d.tokenizer = f.string_or("tokenizer", "byte");
  d.validation_fraction = f.number_or("validation_fraction", 0.02, 0, 0.9);
  d.sequence_length = f.integer_or("sequence_length", 512, 2, kMaxSize);
  d.document_masking = f.boolean_or("document_masking", false);
  return d;
}

ScheduleConfig read_schedule(const TomlFields& f) {
  return {.peak = f.number_or("learning_rate", 3e-4, 0, 1e3),
          .warmup_steps = f.integer_or("warmup_steps", 0, 0, kMaxCount),
          .decay = choose<Decay>(
              f, "decay", "cosine",
              {{"cosine", Decay::cosine}, {"linear", Decay::linear}, {"constant", Decay::constant}}),
          .final_fraction = f.number_or("final_fraction", 0.1, 0, 1)};
}

OptimizerConfig read_optimizer(const TomlFields& f) {
  const double below_one = std::nextafter(1.0, 0.0);
  return {.beta1 = f.number_or("beta1", 0.9, 0, below_one),
          .beta2 = f.number_or("beta2", 0.95, 0, below_one),
          .epsilon = f.number_or("epsilon", 1e-8, 0, 1),
          .weight_decay = f.number_or("weight_decay", 0.1, 0, 1e3),
          .max_gradient_norm = f.number_or("max_gradient_norm", 1, 0, 1e9),
          .z_loss = f.number_or("z_loss", 1e-5, 0, 1)};
}

std::string text_of(const toml::table& table) {
  std::ostringstream out;
  out << table << "\n";
  return out.str();
}

model::NormPlacement read_norm(const TomlFields& f, std::string_view key, std::string_view fallback) {
  return choose<model::NormPlacement>(
      f, key, fallback, {{"pre", model::NormPlacement::pre}, {"post", model::NormPlacement::post}});
}

std::vector<model::LayerType> read_layers(const TomlFields& f) {
  if (f.has("layer_types")) {
    std::vector<model::LayerType> layers;
    for (const auto& name : f.strings("layer_types")) {
      bool known = false;
      for (const auto type : {model::LayerType::linear_attention, model::LayerType::full_attention,
                              model::LayerType::sliding_attention}) {
        if (name == name_of(type)) {
          layers.push_back(type);
          known = true;
        }
      }
      if (!known) f.reject("layer_types", fmt::format("holds '{}', which is no layer type", name));
    }
    return layers;
  }
  const auto name = f.string_or("variant", "hybrid-3:1");
  const auto variant = model::parse_variant(name);
  if (!variant) {
    f.reject(
        "variant",
        fmt::format("is '{}', expected transformer, gdn, hybrid-3:1, hybrid-1:1, hybrid-7:1 or hybrid-middle",
                    name));
  }
  return model::layer_pattern(*variant, f.integer("layers", 1, 4096));
}

model::RopeConfig read_rope(const TomlFields& f) {
  const auto type = choose<model::RopeType>(
      f, "rope", "default", {{"default", model::RopeType::standard}, {"none", model::RopeType::none}});
  return {.type = type, .theta = f.number_or("rope_theta", 500000, 1, 1e12)};
}

}  // namespace

model::ModelConfig read_model_table(const TomlFields& f, std::int64_t sequence_length) {
  model::ModelConfig c;
  if (f.has("preset")) {
    const auto name = f.string("preset");
    const auto found = model::preset(name);
    if (!found)
      f.reject("preset",
               fmt::format("is '{}', which is no preset: 'braid inspect --list' prints them", name));
    c = *found;
  } else if (f.has("config")) {
    c = model::read_config(f.string("config"));
  } else {
    c.layers = read_layers(f);
    c.hidden_size = f.integer("hidden_size", 1, kMaxSize);
    const auto heads = f.integer("heads", 1, kMaxSize);
    c.intermediate_size = f.integer_or("intermediate_size", 4 * c.hidden_size, 1, kMaxSize);
    c.norm_epsilon = f.number_or("norm_epsilon", 1e-6, 1e-30, 0.5);
    c.tied_embeddings = f.boolean_or("tied_embeddings", false);
    if (c.has_attention() && !f.has("head_dim") && c.hidden_size % heads != 0) {
      f.reject("heads",
               fmt::format("{} does not divide hidden_size {}: give head_dim", heads, c.hidden_size));
    }
    c.attention.heads = heads;
    c.attention.kv_heads = f.integer_or("kv_heads", heads, 1, kMaxSize);
    c.attention.head_dim =
        f.integer_or("head_dim", std::max<std::int64_t>(1, c.hidden_size / heads), 1, kMaxSize);
    c.attention.window = f.integer_or("window", 4096, 1, kMaxSize);
    c.attention.rope_full = c.attention.rope_sliding = read_rope(f);
    c.attention.norm = read_norm(f, "attention_norm", "post");
    c.linear.key_heads = f.integer_or("linear_key_heads", heads, 1, kMaxSize);
    c.linear.value_heads = f.integer_or("linear_value_heads", c.linear.key_heads, 1, kMaxSize);
    const auto key = std::max<std::int64_t>(1, 3 * c.hidden_size / (4 * heads));
    c.linear.key_dim = f.integer_or("linear_key_dim", key, 1, kMaxSize);
    c.linear.value_dim = f.integer_or("linear_value_dim", 2 * c.linear.key_dim, 1, kMaxSize);
    c.linear.convolution_width = f.integer_or("convolution_width", 4, 1, 64);
    c.linear.negative_eigenvalues = f.boolean_or("negative_eigenvalues", true);
    c.linear.output_gate = f.boolean_or("output_gate", true);
    c.linear.norm = read_norm(f, "linear_norm", "pre");
  }
  c.linear.initializer = choose<nn::Initializer>(
      f, "linear_initializer", "fan_in",
      {{"fan_in", nn::Initializer::fan_in_uniform}, {"normal", nn::Initializer::normal}});
  c.vocabulary_size = f.integer_or("vocabulary_size", c.vocabulary_size, 0, kMaxSize);  // 0: the tokenizer's
  c.max_positions = std::max(sequence_length, f.integer_or("max_positions", c.max_positions, 1, kMaxSize));
  return c;
}

RunConfig read_run_config(const fs::path& path, const std::vector<std::string>& overrides) {
  toml::table table = io::read_toml(path);
  for (const auto& assignment : overrides) io::apply_override(table, assignment);
  const TomlFields f(table, path.string());
  RunConfig c;
  c.seed = static_cast<std::uint64_t>(f.integer_or("seed", 1, 0));
  c.folder = f.string("run.folder");
  if (c.folder.empty()) f.reject("run.folder", "is empty");
  c.data = read_data(f.table("data"), c.folder);
  const auto model_table = f.table("model");
  if (model_table.has("directory")) {
    c.initial_model = model_table.string("directory");
    c.model = model::read_config(c.initial_model);
    c.model.max_positions = std::max(c.model.max_positions, c.data.sequence_length);
  } else {
    c.model = read_model_table(model_table, c.data.sequence_length);
  }
  const auto train = f.table("train");
  c.steps = train.integer("steps", 1, kMaxCount);
  c.batch_size = train.integer_or("batch_size", 8, 1, kMaxSize);
  c.micro_batch_size = train.integer_or("micro_batch_size", c.batch_size, 1, c.batch_size);
  if (c.batch_size % c.micro_batch_size != 0) {
    train.reject("micro_batch_size",
                 fmt::format("{} does not divide batch_size {}", c.micro_batch_size, c.batch_size));
  }
  c.recompute = choose<Recompute>(
      train, "recompute", "none",
      {{"none", Recompute::none}, {"block", Recompute::block}, {"auto", Recompute::automatic}});
  c.precision =
      choose<Precision>(train, "precision", "auto",
                        {{"auto", Precision::automatic}, {"f32", Precision::f32}, {"bf16", Precision::bf16}});
  c.optimizer = read_optimizer(f.table_or_empty("optimizer"));
  c.schedule = read_schedule(f.table_or_empty("schedule"));
  if (c.schedule.warmup_steps > c.steps) {
    f.reject("schedule.warmup_steps",
             fmt::format("{} is more than train.steps {}", c.schedule.warmup_steps, c.steps));
  }
  c.validation_every = f.integer_or("validation.every", 0, 0, kMaxCount);
  c.validation_batches = f.integer_or("validation.batches", 0, 0, kMaxCount);
  c.checkpoint_every = f.integer_or("checkpoint.every", 0, 0, kMaxCount);
  c.checkpoints_kept = f.integer_or("checkpoint.keep", 2, 1, kMaxCount);
  f.finish();
  c.recipe = text_of(table);
  return c;
}

double learning_rate(const ScheduleConfig& s, std::int64_t step, std::int64_t steps) {
  if (step <= s.warmup_steps) return s.peak * static_cast<double>(step) / static_cast<double>(s.warmup_steps);
  if (s.decay == Decay::constant || steps <= s.warmup_steps) return s.peak;
  const double progress =
      static_cast<double>(step - s.warmup_steps) / static_cast<double>(steps - s.warmup_steps);
  const double shape =
      s.decay == Decay::linear ? 1 - progress : 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return s.peak * (s.final_fraction + (1 - s.final_fraction) * shape);
}

}  // namespace braid::train

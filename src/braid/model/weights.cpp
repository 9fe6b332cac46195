#include "braid/model/weights.h"

#include <array>
#include <cmath>
#include <cstring>
#include <set>

#include "braid/io/checksums.h"
#include "braid/io/quote.h"
#include "braid/model/config_file.h"

namespace braid::model {
namespace {

using nn::ParameterSpec;

double read_element(const ConstTensor& t, std::int64_t i) {
  switch (t.dtype) {
    case DType::f32:
      return t.as<float>()[i];
    case DType::f64:
      return t.as<double>()[i];
    case DType::bf16:
      return static_cast<float>(t.as<BFloat16>()[i]);
    case DType::f16:
      return static_cast<float>(t.as<Float16>()[i]);
    default:
      fail("weights hold {}, expected a floating dtype", name_of(t.dtype));
  }
}

template <class T>
void convert_into(T* out, const ConstTensor& from) {
  for (std::int64_t i = 0; i < from.count(); ++i) {
    if constexpr (std::is_same_v<T, double>) {
      out[i] = read_element(from, i);
    } else {
      out[i] = T(static_cast<float>(read_element(from, i)));
    }
  }
}

// Copies values between floating dtypes (host memory), through f32 for the 16-bit ones.
void convert(const Tensor& to, const ConstTensor& from) {
  if (to.dtype == from.dtype) {
    std::memcpy(to.mutable_data(), from.data, from.bytes());
    return;
  }
  switch (to.dtype) {
    case DType::f32:
      return convert_into(to.as<float>(), from);
    case DType::f64:
      return convert_into(to.as<double>(), from);
    case DType::bf16:
      return convert_into(to.as<BFloat16>(), from);
    case DType::f16:
      return convert_into(to.as<Float16>(), from);
    default:
      fail("cannot convert weights to {}", name_of(to.dtype));
  }
}

bool ends_with(const std::string& text, std::string_view end) { return text.ends_with(end); }

std::string with_end(const std::string& name, std::string_view end, std::string_view replacement) {
  return name.substr(0, name.size() - end.size()) + std::string(replacement);
}

// The names under which files hold a parameter, the published one first.
std::vector<std::string> names_in_files(const std::string& name, bool pre_norm) {
  std::vector<std::string> names{name};
  const auto also = [&](std::string_view end, std::string_view other) {
    if (ends_with(name, end)) names.push_back(with_end(name, end, other));
  };
  if (pre_norm) {
    also(".input_layernorm.weight", ".attention_layer_norm.weight");
    also(".post_attention_layernorm.weight", ".feedforward_layer_norm.weight");
  } else {
    also(".post_attention_layernorm.weight", ".feedforward_layer_norm.weight");
  }
  also(".linear_attn.o_proj.weight", ".linear_attn.out_proj.weight");
  also(".linear_attn.o_norm.weight", ".linear_attn.norm.weight");
  return names;
}

// Block index of "model.layers.N.…", or none.
std::optional<std::size_t> layer_of(const std::string& name) {
  constexpr std::string_view prefix = "model.layers.";
  if (!name.starts_with(prefix)) return std::nullopt;
  return std::stoul(name.substr(prefix.size()));
}

bool pre_norm(const ModelConfig& c, const std::string& name) {
  const auto layer = layer_of(name);
  if (!layer) return false;
  const bool linear = c.layers[*layer] == LayerType::linear_attention;
  return (linear ? c.linear.norm : c.attention.norm) == NormPlacement::pre;
}

// Looks tensors up and remembers which were used.
class Lookup {
 public:
  Lookup(const io::TensorFiles& files, const ModelConfig& config) : files_(files), config_(config) {}

  // Null when absent under every name. "model." may be missing, as base models are saved without it.
  const ConstTensor* find(const std::string& name) {
    const ConstTensor* found = nullptr;
    for (const auto& candidate : names_in_files(name, pre_norm(config_, name))) {
      for (const auto& key : {candidate, candidate.substr(candidate.starts_with("model.") ? 6 : 0)}) {
        const auto* t = files_.find(key);
        if (t == nullptr || used_.contains(key)) continue;
        require(found == nullptr, "{}: tensor '{}' is there under two names", files_.path().string(), key);
        found = t;
        used_.insert(key);
        break;
      }
    }
    return found;
  }
  const ConstTensor& at(const std::string& name) {
    const auto* t = find(name);
    require(t != nullptr, "{}: tensor '{}' is missing", files_.path().string(), name);
    return *t;
  }
  void check_shape(const std::string& name, const ConstTensor& t, const Shape& want) const {
    require(t.shape == want, "{}: tensor '{}' is {}, the config asks for {}", files_.path().string(), name,
            describe(t), to_string(want));
    require(t.dtype == DType::f32 || t.dtype == DType::bf16 || t.dtype == DType::f16 || t.dtype == DType::f64,
            "{}: tensor '{}' is {}, expected a floating dtype", files_.path().string(), name, describe(t));
  }
  // Rotary frequencies that older files carry are derived from the config instead.
  void check_all_used() const {
    for (const auto& t : files_.tensors()) {
      require(used_.contains(t.name) || ends_with(t.name, "rotary_emb.inv_freq"),
              "{}: tensor {} belongs to nothing in the config", files_.path().string(),
              io::in_quotes(t.name));
    }
  }
  const std::string where() const { return files_.path().string(); }

 private:
  const io::TensorFiles& files_;
  const ModelConfig& config_;
  std::set<std::string> used_;
};

// One fused filter, or q, k and v parts whose split need not follow the widths (transformers 5.17 cuts
// thirds): the only safe reading is to join them along the channels.
void load_convolution(Lookup& lookup, const ParameterSpec& spec, const Tensor& t) {
  const auto channels = t.shape[0], width = t.shape[1];
  if (const auto* fused = lookup.find(spec.name)) {
    lookup.check_shape(spec.name, *fused, {channels, 1, width});
    convert(t, reshaped(*fused, t.shape));
    return;
  }
  std::int64_t row = 0;
  for (const auto* part : {"q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight"}) {
    const auto name = with_end(spec.name, "conv1d.weight", part);
    const auto& piece = lookup.at(name);
    require(piece.shape.rank == 3 && piece.shape[0] <= channels - row,
            "{}: tensor '{}' is {}, too many channels", lookup.where(), name, describe(piece));
    lookup.check_shape(name, piece, {piece.shape[0], 1, width});
    convert(rows_of(t, row, piece.shape[0]), reshaped(piece, {piece.shape[0], width}));
    row += piece.shape[0];
  }
  require(row == channels, "{}: the parts of '{}' have {} channels together, the config asks for {}",
          lookup.where(), spec.name, row, channels);
}

void load_parameter(Lookup& lookup, const ParameterSpec& spec, const Tensor& t) {
  if (ends_with(spec.name, ".conv1d.weight")) return load_convolution(lookup, spec, t);
  if (spec.parts.empty()) {
    const auto& source = lookup.at(spec.name);
    lookup.check_shape(spec.name, source, t.shape);
    return convert(t, source);
  }
  std::int64_t row = 0;
  for (const auto& part : spec.parts) {
    const auto& source = lookup.at(part.name);
    lookup.check_shape(part.name, source, {part.rows, t.shape[1]});
    convert(rows_of(t, row, part.rows), source);
    row += part.rows;
  }
}

// A tied model may carry its head as well, if it is the embedding (in host memory).
void check_tied_head(Lookup& lookup, const Tensor& embedding) {
  const auto* head = lookup.find("lm_head.weight");
  if (head == nullptr) return;
  lookup.check_shape("lm_head.weight", *head, embedding.shape);
  const Buffer copy(embedding.bytes());
  Tensor t = embedding;
  t.data = copy.data();
  convert(t, *head);
  require(std::memcmp(t.data, embedding.data, t.bytes()) == 0,
          "{}: tie_word_embeddings is true but lm_head.weight differs from the embedding", lookup.where());
}

// f16 ends at 65504: what lies beyond would become infinite without a word.
void check_range(const std::string& name, const ConstTensor& half, const ConstTensor& from) {
  for (std::int64_t i = 0; i < from.count(); ++i) {
    require(std::isfinite(read_element(half, i)) || !std::isfinite(read_element(from, i)),
            "tensor '{}' holds {}, which f16 cannot: choose bf16 or f32", name, read_element(from, i));
  }
}

Shape convolution_shape(const ConstTensor& t) { return {t.shape[0], 1, t.shape[1]}; }

}  // namespace

struct WeightReader::State {
  Lookup lookup;
  const ModelConfig& config;
};

WeightReader::WeightReader(const io::TensorFiles& files, const ModelConfig& config)
    : state_(new State{Lookup(files, config), config}) {}
WeightReader::~WeightReader() = default;

void WeightReader::read(const NamedParameter& parameter) {
  const auto& [spec, tensor] = parameter;
  load_parameter(state_->lookup, spec, tensor);
  const bool embedding = spec.role == nn::ParameterRole::embedding;
  if (embedding && state_->config.tied_embeddings) check_tied_head(state_->lookup, tensor);
}

void WeightReader::finish() const { state_->lookup.check_all_used(); }

void load_weights(const Parameters& p, const ModelConfig& config, const io::TensorFiles& files,
                  Memory& memory) {
  WeightReader reader(files, config);
  for (const auto& parameter : list(p, config)) {
    const auto& tensor = parameter.tensor;
    if (tensor.device == Device::cpu) {
      reader.read(parameter);
      continue;
    }
    const Buffer staging(tensor.bytes());
    Tensor host = tensor;
    host.device = Device::cpu;
    host.data = staging.data();
    reader.read({parameter.spec, host});
    memory.write(tensor.mutable_data(), host.data, host.bytes());
  }
  reader.finish();
}

namespace {

std::vector<io::NamedTensor> memory_tensors_of(const NamedParameter& parameter) {
  const auto& [spec, tensor] = parameter;
  if (ends_with(spec.name, ".conv1d.weight")) {
    return {{spec.name, reshaped(static_cast<const ConstTensor&>(tensor), convolution_shape(tensor))}};
  }
  if (spec.parts.empty()) return {{spec.name, tensor}};
  std::vector<io::NamedTensor> out;
  std::int64_t row = 0;
  for (const auto& part : spec.parts) {
    out.push_back({part.name, rows_of(tensor, row, part.rows)});
    row += part.rows;
  }
  return out;
}

}  // namespace

std::vector<io::NamedTensor> memory_tensors(const Parameters& p, const ModelConfig& config) {
  std::vector<io::NamedTensor> out;
  for (const auto& parameter : list(p, config)) {
    for (auto& t : memory_tensors_of(parameter)) out.push_back(std::move(t));
  }
  return out;
}

std::vector<io::NamedTensor> file_tensors(const Parameters& p, const ModelConfig& config) {
  std::vector<io::NamedTensor> out;
  for (const auto& parameter : list(p, config)) {
    for (auto& t : file_tensors(parameter, config)) out.push_back(std::move(t));
  }
  return out;
}

std::vector<io::NamedTensor> file_tensors(const NamedParameter& parameter, const ModelConfig& config) {
  const auto keys = config.linear.key_heads * config.linear.key_dim;
  const auto values = config.linear.value_heads * config.linear.value_dim;
  std::vector<io::NamedTensor> out;
  for (auto& [name, tensor] : memory_tensors_of(parameter)) {
    if (ends_with(name, ".conv1d.weight")) {
      std::int64_t row = 0;
      for (const auto& [part, rows] : {std::pair{"q_conv1d.weight", keys}, std::pair{"k_conv1d.weight", keys},
                                       std::pair{"v_conv1d.weight", values}}) {
        out.push_back({with_end(name, "conv1d.weight", part), rows_of(tensor, row, rows)});
        row += rows;
      }
    } else if (pre_norm(config, name) && ends_with(name, ".input_layernorm.weight")) {
      out.push_back({with_end(name, "input_layernorm.weight", "attention_layer_norm.weight"), tensor});
    } else if (pre_norm(config, name) && ends_with(name, ".post_attention_layernorm.weight")) {
      out.push_back(
          {with_end(name, "post_attention_layernorm.weight", "feedforward_layer_norm.weight"), tensor});
    } else {
      out.push_back({name, tensor});
    }
  }
  return out;
}

io::TensorChecksums save_model(const io::fs::path& folder, const Parameters& p, const ModelConfig& config,
                               SaveOptions options) {
  io::fs::create_directories(folder);
  auto tensors = file_tensors(p, config);
  std::vector<Buffer> converted;
  for (auto& [name, t] : tensors) {
    const bool keep = ends_with(name, ".A_log") || ends_with(name, ".dt_bias");
    const DType dtype = keep ? DType::f32 : options.dtype;
    if (t.dtype == dtype) continue;
    Tensor copy{t};
    copy.dtype = dtype;
    converted.emplace_back(static_cast<std::size_t>(t.count()) * size_of(dtype));
    copy.data = converted.back().data();
    convert(copy, t);
    if (dtype == DType::f16) check_range(name, copy, t);
    t = copy;
  }
  constexpr auto text = [](DType d) {
    return d == DType::bf16 ? "bfloat16" : d == DType::f16 ? "float16" : "float32";
  };
  io::write_file(folder / "config.json", write_config(config, text(options.dtype)));
  return io::write_tensor_folder(folder, tensors, options.max_shard_bytes);
}

Model load_model(const io::fs::path& folder, ParameterTypes types, std::shared_ptr<Memory> memory) {
  Model model{.config = read_config(folder), .parameters = {}};
  io::verify_tensor_files(folder);
  const io::TensorFiles files(folder);
  model.parameters = ParameterSet(model.config, types, std::move(memory));
  load_weights(model.parameters.tree(), model.config, files, model.parameters.memory());
  return model;
}

}  // namespace braid::model

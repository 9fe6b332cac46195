#include "braid/train/optimizer_config.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>

#include "braid/io/quote.h"

namespace braid::train {
namespace {

enum class Group : std::uint8_t { embedding, norm, gates, by_name };

Group group_of(const std::string& entry) {
  if (entry == "embedding") return Group::embedding;
  if (entry == "norm") return Group::norm;
  if (entry == "gates") return Group::gates;
  return Group::by_name;
}

bool matches(const std::string& entry, const nn::ParameterSpec& p) {
  using nn::Initializer;
  switch (group_of(entry)) {
    case Group::embedding:
      return p.role == nn::ParameterRole::embedding;
    case Group::norm:
      return p.initializer == Initializer::ones;
    case Group::gates:
      return p.initializer == Initializer::a_log || p.initializer == Initializer::dt_bias;
    case Group::by_name:
      break;
  }
  return ::fnmatch(entry.c_str(), p.name.c_str(), 0) == 0;
}

}  // namespace

OptimizerConfig read_optimizer_config(const io::TomlFields& f) {
  const double below_one = std::nextafter(1.0, 0.0);
  OptimizerConfig c{.beta1 = f.number_or("beta1", 0.9, 0, below_one),
                    .beta2 = f.number_or("beta2", 0.95, 0, below_one),
                    .epsilon = f.number_or("epsilon", 1e-8, 0, 1),
                    .weight_decay = f.number_or("weight_decay", 0.1, 0, 1e3),
                    .max_gradient_norm = f.number_or("max_gradient_norm", 1, 0, 1e9),
                    .z_loss = f.number_or("z_loss", 1e-5, 0, 1)};
  c.kind = choose<OptimizerKind>(
      f, "kind", "adamw",
      {{"adamw", OptimizerKind::adamw}, {"skip_step_adamw", OptimizerKind::skip_step_adamw}});
  for (const auto* key : {"skip_window", "skip_sigma"}) {
    if (f.has(key) && c.kind == OptimizerKind::adamw) f.reject(key, "goes with kind = \"skip_step_adamw\"");
  }
  c.skip = {.window = f.integer_or("skip_window", 128, 2, 1 << 20),
            .sigma = f.number_or("skip_sigma", 6, 0, 1e9)};
  if (f.has("no_decay")) c.no_decay = f.strings("no_decay");
  for (const auto& entry : c.no_decay) {
    if (group_of(entry) == Group::by_name && entry.find_first_of(".*") == entry.npos) {
      f.reject("no_decay", fmt::format("has {}, expected embedding, norm, gates or a parameter's name, in "
                                       "which * stands for any text",
                                       io::in_quotes(entry)));
    }
  }
  return c;
}

bool decays(const OptimizerConfig& c, const nn::ParameterSpec& parameter) {
  return std::ranges::none_of(c.no_decay, [&](const auto& entry) { return matches(entry, parameter); });
}

void check_no_decay(const OptimizerConfig& c, std::span<const nn::ParameterSpec> parameters) {
  for (const auto& entry : c.no_decay) {
    const bool used = group_of(entry) != Group::by_name ||
                      std::ranges::any_of(parameters, [&](const auto& p) { return matches(entry, p); });
    require(used, "optimizer.no_decay: '{}' is no parameter of this model; names are like '{}'", entry,
            parameters[std::min<std::size_t>(1, parameters.size() - 1)].name);
  }
}

}  // namespace braid::train

#include "braid/lab/constructions/directory.h"

#include <cstring>

#include "braid/io/json.h"
#include "braid/model/directory.h"

namespace braid::lab {
namespace {

constexpr const char* kFile = "construction.json";
constexpr std::int64_t kMostN = std::int64_t{1} << 24;

}  // namespace

void save_construction(const io::fs::path& folder, const Construction& construction, std::int64_t n) {
  const auto model = construction.build(n);
  model::publish_directory(folder, [&](const io::fs::path& to) {
    model::save_model(to, model.parameters.tree(), model.config, {});
    const nlohmann::ordered_json about{{"construction", construction.name()}, {"n", n}};
    io::write_file(to / kFile, about.dump(2) + "\n");
  });
}

SavedConstruction read_construction(const io::fs::path& folder) {
  const auto path = folder / kFile;
  const auto json = io::read_json(path);
  const io::Fields fields(json, path.string());
  fields.allow_only({"construction", "n"});
  return {.construction = &construction_named(fields.string("construction")),
          .n = fields.integer("n", 1, kMostN)};
}

model::Model converted(const model::Model& from, model::ParameterTypes types,
                       std::shared_ptr<Memory> memory) {
  model::Model to{.config = from.config, .parameters = model::ParameterSet(from.config, types, memory)};
  const auto sources = model::list(from.parameters.tree(), from.config);
  const auto targets = model::list(to.parameters.tree(), to.config);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const float* values = sources[i].tensor.as<float>();
    const Tensor& target = targets[i].tensor;
    if (target.dtype == DType::f32) {
      memory->write(target.mutable_data(), values, target.bytes());
      continue;
    }
    require(target.dtype == DType::bf16, "constructions run in f32 or bf16, not {}", name_of(target.dtype));
    std::vector<BFloat16> rounded(values, values + target.count());
    memory->write(target.mutable_data(), rounded.data(), target.bytes());
  }
  return to;
}

}  // namespace braid::lab

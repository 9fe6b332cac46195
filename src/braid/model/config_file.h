// config.json of Hugging Face model directories, for olmo_hybrid and olmo3, and for stacks that neither can
// say (model_type "braid": the same fields and a few more, listed in docs/files.md).
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "braid/io/files.h"
#include "braid/model/config.h"

namespace braid::model {

// `source` names the file in errors.
ModelConfig parse_config(std::string_view json, const std::string& source);
// The file, or the folder that holds it; verified where checksums.json is beside it.
ModelConfig read_config(const io::fs::path& path);

// "olmo_hybrid" or "olmo3" when transformers builds the same model from it, else "braid".
std::string_view model_type_of(const ModelConfig& config);
// `dtype` as written in the file: "float32", "bfloat16" or "float16".
std::string write_config(const ModelConfig& config, std::string_view dtype);

}  // namespace braid::model

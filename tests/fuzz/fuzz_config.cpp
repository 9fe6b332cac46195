// config.json of model directories: whatever is accepted fits together and survives being written.
#include <cstdint>
#include <string>

#include "braid/model/config_file.h"
#include "check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace braid;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz::accept_errors([&] {
    const auto config = model::parse_config(text, "input");
    config.validate("input");
    // What the first writing leaves out (settings of layer types that are not there) the second does not
    // miss.
    const auto written = model::write_config(config, "float32");
    const auto again = model::parse_config(written, "written");
    fuzz::check(model::write_config(again, "float32") == written, "written configs read back the same");
    fuzz::check(again.layers == config.layers, "layers survive");
    fuzz::check(model::model_type_of(again) == model::model_type_of(config), "model types survive");
  });
  return 0;
}

// A safetensors image: whatever parses has tensors that tile the data.
#include <cstdint>
#include <cstring>
#include <vector>

#include "braid/io/safetensors.h"
#include "check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace braid;
  std::vector<std::uint64_t> words(size / 8 + 1);  // images are aligned, as maps are
  std::memcpy(words.data(), data, size);
  const std::span<const std::byte> image = std::as_bytes(std::span(words)).first(size);
  fuzz::accept_errors([&] {
    const io::SafetensorsView view = io::parse_safetensors(image, "input");
    const std::byte* at = image.data() + image.size();
    for (auto t = view.tensors.rbegin(); t != view.tensors.rend(); ++t) {
      fuzz::check(t->tensor.data >= image.data() + 8 && t->tensor.count() >= 0, "tensors lie in the image");
      fuzz::check(static_cast<const std::byte*>(t->tensor.data) + t->tensor.bytes() == at,
                  "tensors tile the data");
      at = static_cast<const std::byte*>(t->tensor.data);
    }
  });
  return 0;
}

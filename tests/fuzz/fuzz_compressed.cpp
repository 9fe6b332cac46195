// First byte: plain, gzip or zstd; the rest is the file. Lines and the whole must agree.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "braid/io/compressed.h"
#include "check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace braid;
  if (size == 0) return 0;
  constexpr const char* kEndings[] = {".txt", ".gz", ".zst"};
  const std::string folder = std::filesystem::temp_directory_path().string();
  const std::string path = folder + "/braid-fuzz-" + std::to_string(::getpid()) + kEndings[data[0] % 3];
  std::FILE* file = std::fopen(path.c_str(), "wb");
  fuzz::check(file != nullptr && std::fwrite(data + 1, 1, size - 1, file) == size - 1,
              "the input can be written");
  std::fclose(file);
  fuzz::accept_errors([&] {
    constexpr std::size_t kLimit = 1 << 20;
    std::string lines;
    io::for_each_line(
        path, [&](std::string_view line, std::int64_t) { return lines.append(line) += '\n', true; }, kLimit);
    std::string whole = io::read_compressed(path, std::size_t{64} << 20);
    if (!whole.empty() && whole.back() != '\n') whole += '\n';
    fuzz::check(lines == whole, "lines make up the whole");
  });
  std::filesystem::remove(path);
  return 0;
}

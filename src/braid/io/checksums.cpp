#include "braid/io/checksums.h"

#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

#include "braid/io/json.h"
#include "braid/io/quote.h"

namespace braid::io {
namespace {

using Json = nlohmann::ordered_json;

const std::string kNoChecksum(32, '0');
constexpr std::size_t kMostThreads = 8, kBytesForAThread = std::size_t{16} << 20;

bool is_safetensors(const fs::path& path) { return path.extension() == ".safetensors"; }

std::span<const std::byte> bytes_of(const ConstTensor& t) {
  return {static_cast<const std::byte*>(t.data), t.bytes()};
}

// Everything before the tensors.
std::span<const std::byte> header_of(const MappedFile& file, const SafetensorsView& view) {
  std::size_t data = 0;
  for (const auto& t : view.tensors) data += t.tensor.bytes();  // the format has no holes
  return file.bytes().first(file.bytes().size() - data);
}

// The length field and the JSON, whose extent is read from the file: it is checked before it is parsed.
std::span<const std::byte> unparsed_header(const MappedFile& file) {
  std::uint64_t length = 0;
  const auto all = file.bytes();
  if (all.size() < sizeof length) return all;
  std::copy_n(all.begin(), sizeof length, reinterpret_cast<std::byte*>(&length));
  return all.first(std::min<std::uint64_t>(length, all.size() - sizeof length) + sizeof length);
}

Json describe_file(const fs::path& path, const TensorChecksums& tensors) {
  const MappedFile file(path);
  Json entry{{"bytes", file.bytes().size()}};
  if (!is_safetensors(path)) {
    entry["checksum"] = checksum(file.bytes());
    return entry;
  }
  const auto view = parse_safetensors(file.bytes(), path.string());
  entry["header"] = checksum(header_of(file, view));
  entry["tensors"] = Json::object();
  for (const auto& [name, there] : view.tensors) {
    const auto source = tensors.find(name);
    require(source != tensors.end(), "{}: tensor {} is not one of those that were to be written",
            path.string(), in_quotes(name));
    entry["tensors"][name] = source->second;
  }
  return entry;
}

// The text with the right value of its first key, the checksum of the text with zeros there.
std::string seal(Json body) {
  Json sealed{{"checksum", kNoChecksum}};
  sealed.update(body);
  auto text = sealed.dump(1) + "\n";
  const auto value = checksum(std::as_bytes(std::span(text)));
  return text.replace(text.find(kNoChecksum), kNoChecksum.size(), value);
}

void check_seal(std::string text, const std::string& value, const std::string& source) {
  const auto at = text.find(value);
  require(value.size() == kNoChecksum.size() && at != text.npos, "{}: field 'checksum' is damaged", source);
  text.replace(at, value.size(), kNoChecksum);
  require(checksum(std::as_bytes(std::span(text))) == value,
          "{}: is damaged: its bytes do not have its checksum", source);
}

void check(std::span<const std::byte> bytes, const std::string& want, const std::string& what) {
  const auto found = checksum(bytes);
  require(found == want, "{}: is damaged: checksum {}, {} says {}; if it was changed on purpose, remove {}",
          what, found, kChecksumsName, want, kChecksumsName);
}

nlohmann::json read_sealed(const fs::path& path) {
  require(fs::exists(path), "{}: is missing", path.string());
  const auto text = read_file(path);
  auto json = parse_json(text, path.string());
  check_seal(text, Fields(json, path.string()).string("checksum"), path.string());
  return json;
}

// The files that TensorFiles reads for a stem.
bool is_of_stem(std::string_view file, const std::string& stem) {
  return file == stem + ".safetensors" || file == stem + ".safetensors.index.json" ||
         file.starts_with(stem + "-");
}

// Bytes that must have a checksum.
struct Part {
  std::span<const std::byte> bytes;
  std::string want, what;
};

// The files of a folder, mapped, and the parts whose bytes are still to be read. Sizes and headers are
// checked already.
struct Parts {
  void add(const fs::path& path, const Fields& entry) {
    require(fs::is_regular_file(path), "{}: is missing", path.string());
    const auto& file = files.emplace_back(path);
    const auto bytes = entry.integer("bytes", 0);
    require(static_cast<std::int64_t>(file.bytes().size()) == bytes, "{}: has {} bytes, {} says {}",
            path.string(), file.bytes().size(), kChecksumsName, bytes);
    if (!is_safetensors(path)) {
      all.push_back({file.bytes(), entry.string("checksum"), path.string()});
      return;
    }
    check(unparsed_header(file), entry.string("header"), path.string() + ": the header");
    const auto want = entry.object("tensors");
    for (const auto& [name, tensor] : parse_safetensors(file.bytes(), path.string()).tensors) {
      all.push_back({bytes_of(tensor), want.string(name),
                     fmt::format("{}: tensor {}", path.string(), in_quotes(name))});
    }
  }

  std::vector<MappedFile> files;
  std::vector<Part> all;
};

int threads_for(const std::vector<Part>& parts) {
  std::size_t bytes = 0;
  for (const Part& part : parts) bytes += part.bytes.size();
  const auto useful = static_cast<int>(std::min<std::size_t>(bytes / kBytesForAThread, kMostThreads));
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, std::max(useful, 1));
}

// Several threads read what one would wait for. Throws what is wrong with the first of the parts.
void check_all(const std::vector<Part>& parts, int threads) {
  std::vector<std::exception_ptr> errors(parts.size());
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (auto i = next++; i < parts.size(); i = next++) {
      try {
        check(parts[i].bytes, parts[i].want, parts[i].what);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    }
  };
  {
    std::vector<std::jthread> helpers;
    const auto wanted = std::min<std::size_t>(static_cast<std::size_t>(threads), parts.size());
    try {
      for (std::size_t t = 1; t < wanted; ++t) helpers.emplace_back(work);
    } catch (const std::system_error&) {
      // Those that there are do it all.
    }
    work();
  }
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace

std::string checksum(std::span<const std::byte> bytes) {
  const auto hash = ::XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

void write_checksums(const fs::path& folder, const TensorChecksums& tensors) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename() != kChecksumsName) paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  Json files = Json::object();
  std::size_t described = 0;
  for (const auto& path : paths) {
    auto& entry = files[path.filename().string()] = describe_file(path, tensors);
    if (entry.contains("tensors")) described += entry["tensors"].size();
  }
  require(described == tensors.size(), "{}: {} of the {} tensors were written", folder.string(), described,
          tensors.size());
  write_file(folder / kChecksumsName, seal({{"algorithm", "xxh3-128"}, {"files", files}}));
}

void verify_checksums(const fs::path& folder, const VerifyOptions& options) {
  const auto path = folder / kChecksumsName;
  const auto json = read_sealed(path);
  const auto files = Fields(json, path.string()).object("files");
  Parts parts;
  for (const auto& [name, unused] : files.value().items()) {
    if (!options.only || options.only(name)) parts.add(folder / name, files.object(name));
  }
  check_all(parts.all, options.threads > 0 ? options.threads : threads_for(parts.all));
}

void verify_file(const fs::path& path) {
  const auto folder = path.parent_path();
  const auto name = path.filename().string();
  if (!fs::exists(folder / kChecksumsName)) return;
  verify_checksums(folder, {.only = [&](std::string_view file) { return file == name; }});
}

void verify_tensor_files(const fs::path& folder, const std::string& stem) {
  if (!fs::exists(folder / kChecksumsName)) return;
  verify_checksums(folder, {.only = [&](std::string_view file) { return is_of_stem(file, stem); }});
}

TensorChecksums listed_tensor_checksums(const fs::path& folder, const std::string& stem) {
  TensorChecksums all;
  const auto path = folder / kChecksumsName;
  if (!fs::exists(path)) return all;
  const auto json = read_sealed(path);
  const auto files = Fields(json, path.string()).object("files");
  for (const auto& [name, unused] : files.value().items()) {
    if (!is_safetensors(name) || !is_of_stem(name, stem)) continue;
    const auto tensors = files.object(name).object("tensors");
    for (const auto& [tensor, value] : tensors.value().items()) all.emplace(tensor, tensors.string(tensor));
  }
  return all;
}

}  // namespace braid::io

#include "braid/io/checksums.h"

#include <xxhash.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "braid/io/json.h"
#include "braid/io/quote.h"

namespace braid::io {
namespace {

using Json = nlohmann::ordered_json;

const std::string kNoChecksum(32, '0');

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

Json describe_file(const fs::path& path, const std::unordered_map<std::string, ConstTensor>& tensors) {
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
    require(source != tensors.end() && source->second.bytes() == there.bytes(),
            "{}: tensor {} is not one of those that were to be written", path.string(), in_quotes(name));
    entry["tensors"][name] = checksum(bytes_of(source->second));
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
  require(found == want, "{}: is damaged: checksum {}, {} says {}", what, found, kChecksumsName, want);
}

void verify_tensors(const MappedFile& file, const Fields& entry) {
  const auto source = file.path().string();
  check(unparsed_header(file), entry.string("header"), source + ": the header");
  const auto want = entry.object("tensors");
  for (const auto& [name, tensor] : parse_safetensors(file.bytes(), source).tensors) {
    check(bytes_of(tensor), want.string(name), fmt::format("{}: tensor {}", source, in_quotes(name)));
  }
}

}  // namespace

std::string checksum(std::span<const std::byte> bytes) {
  const auto hash = ::XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

void write_checksums(const fs::path& folder, const std::vector<NamedTensor>& tensors) {
  std::unordered_map<std::string, ConstTensor> sources;
  for (const auto& [name, tensor] : tensors) {
    require(sources.emplace(name, tensor).second, "{}: tensor {} occurs twice", folder.string(),
            in_quotes(name));
  }
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename() != kChecksumsName) paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  Json files = Json::object();
  std::size_t described = 0;
  for (const auto& path : paths) {
    auto& entry = files[path.filename().string()] = describe_file(path, sources);
    if (entry.contains("tensors")) described += entry["tensors"].size();
  }
  require(described == sources.size(), "{}: {} of the {} tensors were written", folder.string(), described,
          sources.size());
  write_file(folder / kChecksumsName, seal({{"algorithm", "xxh3-128"}, {"files", files}}));
}

void verify_checksums(const fs::path& folder) {
  const auto path = folder / kChecksumsName;
  require(fs::exists(path), "{}: is missing", path.string());
  const auto text = read_file(path);
  const auto json = parse_json(text, path.string());
  const Fields f(json, path.string());
  check_seal(text, f.string("checksum"), path.string());
  const auto files = f.object("files");
  for (const auto& [name, unused] : files.value().items()) {
    const auto entry = files.object(name);
    const auto file_path = folder / name;
    require(fs::is_regular_file(file_path), "{}: is missing", file_path.string());
    const MappedFile file(file_path);
    const auto bytes = entry.integer("bytes", 0);
    require(static_cast<std::int64_t>(file.bytes().size()) == bytes, "{}: has {} bytes, {} says {}",
            file_path.string(), file.bytes().size(), kChecksumsName, bytes);
    if (is_safetensors(file_path)) {
      verify_tensors(file, entry);
    } else {
      check(file.bytes(), entry.string("checksum"), file_path.string());
    }
  }
}

}  // namespace braid::io

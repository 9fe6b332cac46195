#include "braid/train/event_file.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <chrono>

namespace braid::train {
namespace {

constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0);
    table[i] = crc;
  }
  return table;
}();

template <class T>
std::string little_endian(T value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>((value >> (8 * i)) & 0xFF);
  return bytes;
}

// As TFRecord stores it, so that a checksum of data that holds checksums stays one.
std::string masked_crc(std::string_view bytes) {
  return little_endian(std::rotr(crc32c(bytes), 15) + 0xA282EAD8u);
}

// Protocol Buffers' wire format (protobuf.dev/programming-guides/encoding).
enum class Wire : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7F) | 0x80);
  return bytes += static_cast<char>(value);
}
std::string key(std::uint64_t field, Wire wire) {
  return varint(field << 3 | static_cast<std::uint64_t>(wire));
}
std::string integer(std::uint64_t field, std::int64_t value) {
  return key(field, Wire::varint) + varint(static_cast<std::uint64_t>(value));
}
std::string real(std::uint64_t field, double value) {
  return key(field, Wire::fixed64) + little_endian(std::bit_cast<std::uint64_t>(value));
}
std::string real(std::uint64_t field, float value) {
  return key(field, Wire::fixed32) + little_endian(std::bit_cast<std::uint32_t>(value));
}
std::string bytes(std::uint64_t field, std::string_view value) {
  return key(field, Wire::bytes) + varint(value.size()) + std::string(value);
}

// Event: wall_time = 1, step = 2, then one of file_version = 3, summary = 5, session_log = 7.
std::string event(std::int64_t step, const std::string& what) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  return tfrecord(real(1, now.count()) + integer(2, step) + what);
}

// events.out.tfevents.SECONDS.HOST.PID. Readers go by the order of names, so the seconds run ahead of the
// clock where files follow one another faster.
fs::path new_name(const fs::path& folder) {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0 || host[0] == '\0') host = {"localhost"};
  std::int64_t seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  constexpr std::int64_t kLastSecond = 9'999'999'999;  // of ten digits
  constexpr std::string_view kPrefix = "events.out.tfevents.";
  for (const auto& entry : fs::directory_iterator(folder)) {
    const auto other = entry.path().filename().string();
    if (!other.starts_with(kPrefix)) continue;
    std::int64_t taken = 0;  // stays where no number follows
    std::from_chars(other.data() + kPrefix.size(), other.data() + other.size(), taken);
    if (taken < kLastSecond) seconds = std::max(seconds, taken + 1);
  }
  return folder / fmt::format("{}{:010d}.{}.{}", kPrefix, seconds, host.data(), ::getpid());
}

}  // namespace

std::uint32_t crc32c(std::string_view text) {
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const char c : text) crc = kCrcTable[(crc ^ static_cast<std::uint8_t>(c)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

std::string tfrecord(std::string_view data) {
  const auto length = little_endian(static_cast<std::uint64_t>(data.size()));
  return length + masked_crc(length) + std::string(data) + masked_crc(data);
}

EventFile::EventFile(const fs::path& folder, std::int64_t first_step) {
  fs::create_directories(folder);
  file_ = std::make_unique<io::AppendFile>(new_name(folder));
  constexpr std::int64_t kStart = 1;  // SessionLog.status
  file_->append(event(0, bytes(3, "brain.Event:2")) + event(first_step, bytes(7, integer(1, kStart))));
}

void EventFile::append(std::int64_t step, std::initializer_list<Scalar> scalars) {
  std::string values;  // Summary.Value: tag = 1, simple_value = 2
  for (const auto& s : scalars) values += bytes(1, bytes(1, s.tag) + real(2, static_cast<float>(s.value)));
  file_->append(event(step, bytes(5, values)));
}

}  // namespace braid::train

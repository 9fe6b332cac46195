// Event files for TensorBoard: TFRecord frames (length, masked CRC32C, Event message, masked CRC32C) with the
// fields of tensorflow/core/util/event.proto and framework/summary.proto, encoded here by hand.
#pragma once
#include <initializer_list>
#include <memory>

#include "braid/io/append_file.h"

namespace braid::train {

namespace fs = std::filesystem;

std::uint32_t crc32c(std::string_view bytes);  // Castagnoli, RFC 3720 appendix B.4
std::string tfrecord(std::string_view data);   // one frame

struct Scalar {
  std::string_view tag;  // "train/loss"
  double value = 0;      // kept as f32
};

class EventFile {
 public:
  // Makes a new file in `folder`, named after every one that is there. Readers forget the events of earlier
  // files at and after `first_step`, which a run that goes on from a checkpoint does again.
  EventFile(const fs::path& folder, std::int64_t first_step);
  void append(std::int64_t step, std::initializer_list<Scalar> scalars);
  io::AppendFile& file() { return *file_; }

 private:
  std::unique_ptr<io::AppendFile> file_;
};

}  // namespace braid::train

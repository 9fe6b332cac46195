#include "braid/io/compressed.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <array>
#include <cerrno>
#include <limits>
#include <memory>
#include <system_error>
#include <vector>

namespace braid::io {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 18;

// The bytes of a file in order, with the count read so far for error messages.
class FileBytes {
 public:
  explicit FileBytes(const fs::path& path) : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) fail("cannot read {}: {}", path.string(), std::generic_category().message(errno));
  }
  ~FileBytes() { ::close(fd_); }
  FileBytes(const FileBytes&) = delete;
  FileBytes& operator=(const FileBytes&) = delete;

  // 0 only at the end of the file.
  std::size_t read(std::span<char> out) {
    for (;;) {
      const ::ssize_t n = ::read(fd_, out.data(), out.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail("cannot read {}: {}", path_.string(), std::generic_category().message(errno));
      position_ += static_cast<std::size_t>(n);
      return static_cast<std::size_t>(n);
    }
  }
  std::uint64_t position() const { return position_; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  int fd_;
  std::uint64_t position_ = 0;
};

// Decompressed bytes in order; read() returns 0 only at a proper end.
class Source {
 public:
  virtual ~Source() = default;
  virtual std::size_t read(std::span<char> out) = 0;
  virtual std::uint64_t position() const = 0;  // in the file itself
};

class PlainSource : public Source {
 public:
  explicit PlainSource(const fs::path& path) : file_(path) {}
  std::size_t read(std::span<char> out) override { return file_.read(out); }
  std::uint64_t position() const override { return file_.position(); }

 private:
  FileBytes file_;
};

// gzip, including several members one after another.
class GzipSource : public Source {
 public:
  explicit GzipSource(const fs::path& path) : file_(path), input_(kChunk) {
    constexpr int kGzipOnly = 16;
    require(::inflateInit2(&stream_, MAX_WBITS + kGzipOnly) == Z_OK, "{}: cannot start zlib", path.string());
  }
  ~GzipSource() override { ::inflateEnd(&stream_); }
  std::uint64_t position() const override { return file_.position(); }

  std::size_t read(std::span<char> out) override {
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(out.size());
    while (stream_.avail_out == out.size()) {
      if (stream_.avail_in == 0 && !refill()) {
        require(between_members_ && started_, "{}: gzip data is truncated at byte {}", file_.path().string(),
                file_.position());
        return 0;
      }
      if (between_members_) ::inflateReset(&stream_);
      between_members_ = false, started_ = true;
      const int status = ::inflate(&stream_, Z_NO_FLUSH);
      between_members_ = status == Z_STREAM_END;
      require(status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR,
              "{}: corrupt gzip data at byte {}: {}", file_.path().string(),
              file_.position() - stream_.avail_in,
              stream_.msg != nullptr ? stream_.msg : "unexpected preset dictionary");
    }
    return out.size() - stream_.avail_out;
  }

 private:
  bool refill() {
    stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
    stream_.avail_in = static_cast<uInt>(file_.read(input_));
    return stream_.avail_in != 0;
  }

  FileBytes file_;
  std::vector<char> input_;
  z_stream stream_{};
  bool between_members_ = true, started_ = false;
};

// zstd, including several frames. Frames that need a window over 128 MiB (libzstd's default) are refused.
class ZstdSource : public Source {
 public:
  explicit ZstdSource(const fs::path& path) : file_(path), input_(kChunk), stream_(::ZSTD_createDStream()) {
    require(stream_ != nullptr, "{}: cannot start zstd", path.string());
  }
  std::uint64_t position() const override { return file_.position(); }

  std::size_t read(std::span<char> out) override {
    ZSTD_outBuffer target{out.data(), out.size(), 0};
    while (target.pos == 0) {
      if (pending_.pos == pending_.size && !flushing_ && !refill()) {
        require(between_frames_ && started_, "{}: zstd data is truncated at byte {}", file_.path().string(),
                file_.position());
        return 0;
      }
      started_ = true;
      const std::size_t status = ::ZSTD_decompressStream(stream_.get(), &target, &pending_);
      require(::ZSTD_isError(status) == 0, "{}: corrupt zstd data at byte {}: {}", file_.path().string(),
              file_.position() - (pending_.size - pending_.pos), ::ZSTD_getErrorName(status));
      between_frames_ = status == 0;
      flushing_ = target.pos == target.size && !between_frames_;  // more output may wait inside the decoder
    }
    return target.pos;
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const { ::ZSTD_freeDStream(stream); }
  };
  bool refill() {
    pending_ = {input_.data(), file_.read(input_), 0};
    return pending_.size != 0;
  }

  FileBytes file_;
  std::vector<char> input_;
  std::unique_ptr<ZSTD_DStream, Free> stream_;
  ZSTD_inBuffer pending_{nullptr, 0, 0};
  bool between_frames_ = true, started_ = false, flushing_ = false;
};

std::unique_ptr<Source> open_source(const fs::path& path) {
  if (path.extension() == ".gz") return std::make_unique<GzipSource>(path);
  if (path.extension() == ".zst") return std::make_unique<ZstdSource>(path);
  return std::make_unique<PlainSource>(path);
}

}  // namespace

void for_each_line(const fs::path& path, const LineFunction& fn, std::size_t max_line_bytes) {
  for_each_line_of(
      path, [&](const Line& line) { return fn(line.text, line.number); }, max_line_bytes);
}

void for_each_line_of(const fs::path& path, const std::function<bool(const Line& line)>& fn,
                      std::size_t max_line_bytes) {
  const std::unique_ptr<Source> source = open_source(path);
  std::vector<char> chunk(kChunk);
  std::string carried;  // the start of a line that the last chunk did not end
  std::int64_t number = 1;
  const auto check = [&](std::size_t length) {
    require(length <= max_line_bytes, "{}: line {} is longer than {} bytes", path.string(), number,
            max_line_bytes);
  };
  const auto read = [&] {
    try {
      return source->read(chunk);
    } catch (const Error& error) {
      fail("{} (in line {})", error.what(), number);
    }
  };
  while (const std::size_t size = read()) {
    std::string_view rest(chunk.data(), size);
    for (auto end = rest.find('\n'); end != rest.npos; end = rest.find('\n')) {
      check(carried.size() + end);
      std::string_view line = rest.substr(0, end);
      if (!carried.empty()) line = carried.append(line);
      if (!fn({line, number, source->position()})) return;
      ++number;
      carried.clear();
      rest.remove_prefix(end + 1);
    }
    check(carried.size() + rest.size());
    carried.append(rest);
  }
  if (!carried.empty()) fn({carried, number, source->position()});
}

std::string read_compressed(const fs::path& path, std::size_t max_bytes) {
  const std::unique_ptr<Source> source = open_source(path);
  std::vector<char> chunk(kChunk);
  std::string text;
  while (const std::size_t size = source->read(chunk)) {
    require(size <= max_bytes - text.size(), "{}: more than {} bytes", path.string(), max_bytes);
    text.append(chunk.data(), size);
  }
  return text;
}

std::string gzip(std::string_view text) {
  constexpr int kGzip = 16, kDefaultMemory = 8;
  require(text.size() <= std::numeric_limits<uInt>::max(), "cannot gzip {} bytes at once, at most 4 GiB",
          text.size());
  z_stream stream{};
  require(::deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, MAX_WBITS + kGzip, kDefaultMemory,
                         Z_DEFAULT_STRATEGY) == Z_OK,
          "cannot start zlib");
  std::string out(::deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int status = ::deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  require(status == Z_STREAM_END, "zlib could not compress {} bytes", text.size());
  return out;
}

}  // namespace braid::io

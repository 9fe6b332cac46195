#include "braid/data/build_shards.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "braid/data/documents.h"
#include "braid/io/compressed.h"
#include "braid/io/json.h"

namespace braid::data {
namespace {

constexpr std::array kSplitNames = {"train", "validation"};
constexpr std::int64_t kBlockBytes = std::int64_t{1} << 19;
constexpr double kReportSeconds = 0.5;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  require(!error, "cannot remove {}: {}", folder.string(), error.message());
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, "cannot create the folder {}: {}", folder.string(), error.message());
}

std::string text_of(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error) ? io::read_file(path) : std::string();
}

}  // namespace

// Lines of one file, or a whole text, and what becomes of them.
struct ShardedBuild::Block {
  struct Counts {
    std::int64_t documents = 0, empty_documents = 0;
  };
  InputPosition end;
  std::uint64_t input_bytes = 0;  // of all input files, read up to here
  SplitTokens tokens;
  Counts counts;
};

// Cuts the files into blocks and hands each to `submit` as a task.
class ShardedBuild::Reader {
 public:
  using Task = std::function<Block()>;
  Reader(const std::vector<fs::path>& files, const text::Tokenizer& tokenizer, const Vocabulary& vocabulary,
         const BuildOptions& options, std::function<void(Task)> submit)
      : files_(files),
        tokenizer_(tokenizer),
        end_of_text_(vocabulary.end_of_text),
        options_(options),
        submit_(std::move(submit)) {}

  void read(const InputPosition& start) {
    std::uint64_t before = 0;  // bytes of the files that are done
    for (std::size_t f = 0; f < files_.size(); ++f) {
      const auto size = static_cast<std::uint64_t>(fs::file_size(files_[f]));
      if (f >= start.file) read_file(f, f == start.file ? start.line : 0, before);
      before += size;
      if (f >= start.file)
        submit_([end = InputPosition{f + 1, 0}, before] {
          return Block{.end = end, .input_bytes = before, .tokens = {}, .counts = {}};
        });
    }
  }

 private:
  struct Lines {
    std::string text;
    std::vector<std::pair<std::size_t, std::int64_t>> ends;  // of each line in the text, and its number
  };

  void read_file(std::size_t f, std::int64_t done, std::uint64_t before) {
    const fs::path& path = files_[f];
    if (document_ending(path).starts_with(".txt")) {
      if (done > 0) return;  // its one document lies in a part
      submit_([this, path, f, before] {
        Block block{.end = {f, 1}, .input_bytes = before, .tokens = {}, .counts = {}};
        add(io::read_compressed(path), block);
        return block;
      });
      return;
    }
    auto lines = std::make_shared<Lines>();
    std::uint64_t read = 0;
    const auto submit = [&] {
      if (lines->ends.empty()) return;
      submit_([this, lines, path, f, bytes = before + read] { return tokenize(*lines, path, f, bytes); });
      lines = std::make_shared<Lines>();
    };
    io::for_each_line_of(path, [&](const io::Line& line) {
      if (line.number <= done) return true;
      lines->text += line.text;
      lines->ends.emplace_back(lines->text.size(), line.number);
      read = line.file_bytes;
      if (static_cast<std::int64_t>(lines->text.size()) >= std::min(kBlockBytes, options_.shard_bytes))
        submit();
      return true;
    });
    submit();
  }

  Block tokenize(const Lines& lines, const fs::path& path, std::size_t f, std::uint64_t bytes) const {
    Block block{.end = {f, lines.ends.back().second}, .input_bytes = bytes, .tokens = {}, .counts = {}};
    std::size_t begin = 0;
    for (const auto& [end, number] : lines.ends) {
      const auto line = std::string_view(lines.text).substr(begin, end - begin);
      begin = end;
      if (!is_blank(line)) add(parse_document(line, path, number).text, block);
    }
    return block;
  }

  void add(const std::string& text, Block& block) const {
    ++(text.empty() ? block.counts.empty_documents : block.counts.documents);
    if (text.empty()) return;
    const double fraction = options_.validation_fraction;
    const bool held_out = fraction > 0 && in_validation(text, fraction, options_.seed);
    const std::size_t split = held_out ? kValidation : kTrain;
    auto& ids = block.tokens.ids[split];
    const std::vector<TokenId> encoded = tokenizer_.encode(text);
    ids.insert(ids.end(), encoded.begin(), encoded.end());
    ids.push_back(end_of_text_);
    block.tokens.text_bytes[split] += static_cast<std::int64_t>(text.size());
  }

  const std::vector<fs::path>& files_;
  const text::Tokenizer& tokenizer_;
  TokenId end_of_text_;
  const BuildOptions& options_;
  std::function<void(Task)> submit_;
};

ShardedBuild::ShardedBuild(const fs::path& work, const std::string& plan, const Vocabulary& vocabulary,
                           const BuildOptions& options)
    : folder_(work), vocabulary_(vocabulary), options_(options), began_(now()), reported_(began_) {
  make_folder(folder_.parent_path());
  const auto lock = fs::path(folder_) += ".lock";
  lock_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  require(lock_ >= 0, "cannot create {}", lock.string());
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(std::exchange(lock_, -1));
    fail("{}: another process is building token files here", folder_.parent_path().string());
  }
  const auto plan_file = folder_ / "plan.json";
  if (text_of(plan_file) == plan) {
    while (restore_part()) continue;
  } else {
    remove_folder(folder_);
    make_folder(folder_);
    io::write_file(plan_file, plan);
  }
}

// Without a whole part there is nothing to go on from: an error leaves nothing behind.
ShardedBuild::~ShardedBuild() {
  if (lock_ < 0) return;
  std::error_code ignored;
  if (parts_ == 0) fs::remove_all(folder_, ignored);
  fs::remove(fs::path(folder_) += ".lock", ignored);
  ::close(lock_);
}

fs::path ShardedBuild::part_path(std::int64_t part, std::size_t split) const {
  return folder_ / token_file_name(fmt::format("{:06}-{}", part, kSplitNames[split]), vocabulary_.size);
}

fs::path ShardedBuild::marker_path(std::int64_t part) const {
  return folder_ / fmt::format("{:06}.json", part);
}

// The next part, if it is whole. Its marker is written last; a damaged part is made again.
bool ShardedBuild::restore_part() {
  const fs::path path = marker_path(parts_);
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return false;
  try {
    const auto json = io::read_json(path);
    const io::Fields marker(json, path.string());
    for (const std::size_t split : {kTrain, kValidation}) {
      if (!marker.boolean(kSplitNames[split])) continue;
      const TokenFile file(part_path(parts_, split));
      file.verify();
      progress_.text_bytes += file.info()->text_bytes;
      progress_.tokens += file.size();
    }
    start_ = {static_cast<std::size_t>(marker.integer("file", 0)), marker.integer("line", 0)};
    progress_.documents += marker.integer("documents", 0);
    progress_.empty_documents += marker.integer("empty_documents", 0);
    progress_.input_bytes = static_cast<std::uint64_t>(marker.integer("input_bytes", 0));
  } catch (const Error&) {
    return false;
  }
  ++parts_;
  progress_.resumed = true;
  return true;
}

void ShardedBuild::write_part(const InputPosition& end) {
  nlohmann::json marker = {{"file", end.file}, {"line", end.line}, {"input_bytes", progress_.input_bytes}};
  marker["documents"] = part_documents_, marker["empty_documents"] = part_empty_documents_;
  for (const std::size_t split : {kTrain, kValidation}) {
    const auto& ids = tokens_.ids[split];
    marker[kSplitNames[split]] = !ids.empty();
    if (ids.empty()) continue;
    TokenFileWriter writer(part_path(parts_, split), vocabulary_);
    writer.append(ids, tokens_.text_bytes[split]);
    writer.commit();
  }
  io::write_file(marker_path(parts_), marker.dump());
  ++parts_;
  tokens_ = {};
  part_documents_ = part_empty_documents_ = 0;
}

void ShardedBuild::take(Block&& block) {
  for (const std::size_t split : {kTrain, kValidation}) {
    auto& ids = tokens_.ids[split];
    const auto& more = block.tokens.ids[split];
    ids.insert(ids.end(), more.begin(), more.end());
    tokens_.text_bytes[split] += block.tokens.text_bytes[split];
    progress_.text_bytes += block.tokens.text_bytes[split];
    progress_.tokens += static_cast<std::int64_t>(more.size());
  }
  part_documents_ += block.counts.documents, part_empty_documents_ += block.counts.empty_documents;
  progress_.documents += block.counts.documents, progress_.empty_documents += block.counts.empty_documents;
  progress_.input_bytes = block.input_bytes;
  if (tokens_.text_bytes[kTrain] + tokens_.text_bytes[kValidation] >= options_.shard_bytes)
    write_part(block.end);
  report(false);
}

void ShardedBuild::report(bool always) {
  const double time = now();
  if (!always && time - reported_ < kReportSeconds) return;
  reported_ = time;
  progress_.seconds = time - began_;
  if (options_.progress) options_.progress(progress_);
}

void ShardedBuild::run(const std::vector<fs::path>& files, const text::Tokenizer& tokenizer) {
  for (const fs::path& file : files) progress_.total_bytes += static_cast<std::uint64_t>(fs::file_size(file));
  progress_.resumed_bytes = progress_.input_bytes;
  progress_.resumed_text_bytes = progress_.text_bytes;
  const int workers = options_.workers;
  OrderedWork<Block> work(workers > 1 ? workers : 0);  // one worker is this thread
  const std::size_t ahead = workers > 1 ? 2 * static_cast<std::size_t>(workers) + 2 : 1;
  Reader reader(files, tokenizer, vocabulary_, options_, [&](Reader::Task task) {
    work.submit(std::move(task));
    while (work.pending() >= ahead) take(work.next());
  });
  reader.read(start_);
  while (work.pending() > 0) take(work.next());
  report(true);
}

void ShardedBuild::write(std::size_t split, TokenFileWriter& writer) const {
  constexpr std::int64_t kChunk = std::int64_t{1} << 18;
  std::vector<TokenId> ids(kChunk);
  for (std::int64_t part = 0; part < parts_; ++part) {
    std::error_code ignored;
    if (!fs::exists(part_path(part, split), ignored)) continue;
    const TokenFile file(part_path(part, split));
    std::int64_t text_bytes = file.info()->text_bytes;
    for (std::int64_t first = 0; first < file.size(); first += kChunk) {
      const auto chunk =
          std::span(ids).first(static_cast<std::size_t>(std::min(kChunk, file.size() - first)));
      file.read(first, chunk);
      writer.append(chunk, std::exchange(text_bytes, 0));
    }
  }
  writer.append(tokens_.ids[split], tokens_.text_bytes[split]);
}

void ShardedBuild::finish() { remove_folder(folder_); }

}  // namespace braid::data

#include "braid/data/documents.h"

#include <algorithm>
#include <utility>

#include "braid/io/compressed.h"
#include "braid/io/json.h"

namespace braid::data {
namespace {

std::vector<std::string_view> known_endings() {
  std::vector<std::string_view> endings;
  for (std::string_view rest = kDocumentEndings; !rest.empty();) {
    const auto end = std::min(rest.find(' '), rest.size());
    endings.push_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return endings;
}

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

void list_folder(const fs::path& folder, std::vector<fs::path>& files) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (is_hidden(entry.path())) continue;
    if (entry.is_directory() && !entry.is_symlink()) {  // links to folders could run in circles
      list_folder(entry.path(), files);
    } else {
      files.push_back(entry.path());
    }
  }
}

std::string id_of(const io::Fields& fields, const fs::path& path, std::int64_t line) {
  const nlohmann::json* id = fields.find("id");
  if (id == nullptr) return fmt::format("{}:{}", path.filename().string(), line);
  if (id->is_number_integer()) return id->dump();
  return fields.string("id");
}

// False when fn stopped early.
bool read_file_documents(const fs::path& path, const DocumentFunction& fn) {
  if (document_ending(path).starts_with(".txt")) {
    return fn({path.filename().string(), "", io::read_compressed(path)});
  }
  bool more = true;
  io::for_each_line(path, [&](std::string_view line, std::int64_t number) {
    if (!is_blank(line)) more = fn(parse_document(line, path, number));
    return more;
  });
  return more;
}

}  // namespace

Document parse_document(std::string_view line, const fs::path& path, std::int64_t number) {
  const std::string source = fmt::format("{}: line {}", path.string(), number);
  const nlohmann::json object = io::parse_json(line, source);
  const io::Fields fields(object, source);
  return {id_of(fields, path, number), fields.string_or("source", ""), fields.string("text")};
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == line.npos; }

std::string_view document_ending(const fs::path& path) {
  const std::string name = path.filename().string();
  for (const std::string_view ending : known_endings()) {
    if (name.ends_with(ending) && name.size() > ending.size()) return ending;
  }
  fail("{}: not a kind of file that holds documents; known endings: {}", path.string(), kDocumentEndings);
}

std::vector<fs::path> document_files(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  require(fs::exists(status), "{}: no such file or folder, or not allowed to look", path.string());
  std::vector<fs::path> files;
  if (!fs::is_directory(status)) {
    files.push_back(path);
  } else {
    try {
      list_folder(path, files);
    } catch (const fs::filesystem_error& cause) {
      fail("cannot list {}: {}", cause.path1().string(), cause.code().message());
    }
    require(!files.empty(), "{}: the folder holds no documents; known endings: {}", path.string(),
            kDocumentEndings);
    std::ranges::sort(files, {}, [](const fs::path& file) { return file.generic_string(); });
  }
  for (const fs::path& file : files) document_ending(file);
  return files;
}

void for_each_document(const fs::path& path, const DocumentFunction& fn) {
  for (const fs::path& file : document_files(path)) {
    if (!read_file_documents(file, fn)) return;
  }
}

}  // namespace braid::data

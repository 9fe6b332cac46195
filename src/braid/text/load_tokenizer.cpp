#include "braid/io/checksums.h"
#include "braid/io/compressed.h"
#include "braid/io/json.h"
#include "braid/io/quote.h"
#include "braid/text/tokenizer.h"

namespace braid::text {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxFileBytes = std::size_t{256} << 20;

std::unique_ptr<Tokenizer> load_braid_tokenizer(const fs::path& path) {
  const nlohmann::json json = io::read_json(path);
  const io::Fields fields(json, path.string());
  fields.allow_only({"type", "chat_markers"});
  const std::string type = fields.string("type");
  if (type != "byte") fields.reject("type", fmt::format("is {}, expected 'byte'", io::in_quotes(type)));
  return byte_tokenizer(fields.boolean_or("chat_markers", false) ? ByteMarkers::chat : ByteMarkers::none);
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& path) {
  if (path == "byte") return byte_tokenizer();
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    io::verify_file(path);
    if (path.filename() == "braid_tokenizer.json") return load_braid_tokenizer(path);
    return parse_tokenizer_json(io::read_compressed(path, kMaxFileBytes), path.string());
  }
  const fs::path published = path / "tokenizer.json", own = path / "braid_tokenizer.json";
  const bool has_published = fs::exists(published, ignored), has_own = fs::exists(own, ignored);
  require(has_published || has_own, "{}: neither tokenizer.json nor braid_tokenizer.json is there",
          path.string());
  require(!has_published || !has_own,
          "{}: both tokenizer.json and braid_tokenizer.json are there; remove one", path.string());
  return load_tokenizer(has_published ? published : own);
}

}  // namespace braid::text

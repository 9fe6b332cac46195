// The sidecar of a token file as JSON.
#include <limits>

#include "braid/data/token_file.h"
#include "braid/io/json.h"

namespace braid::data {
namespace {

constexpr std::string_view kFormat = "braid token file";
constexpr std::int64_t kVersion = 1;

std::string hash_field(const io::Fields& fields, std::string_view key) {
  const std::string value = fields.string(key);
  if (value.size() != 16 || value.find_first_not_of("0123456789abcdef") != value.npos) {
    fields.reject(key, "is not 16 hexadecimal digits");
  }
  return value;
}

}  // namespace

TokenFileInfo parse_token_file_info(std::string_view json, const std::string& source) {
  const nlohmann::json root = io::parse_json(json, source);
  const io::Fields fields(root, source);
  if (fields.string("format") != kFormat) fields.reject("format", fmt::format("is not '{}'", kFormat));
  fields.integer("version", kVersion, kVersion);
  TokenFileInfo info;
  info.width = static_cast<TokenWidth>(fields.integer("width", 2, 4));
  if (info.width != TokenWidth::u16 && info.width != TokenWidth::u32) fields.reject("width", "is not 2 or 4");
  const std::int64_t largest = info.width == TokenWidth::u16 ? 65536 : std::numeric_limits<TokenId>::max();
  info.vocabulary.size = fields.integer("vocabulary_size", 1, largest);
  info.vocabulary.end_of_text =
      static_cast<TokenId>(fields.integer("end_of_text", 0, info.vocabulary.size - 1));
  if (fields.has("tokenizer")) info.vocabulary.tokenizer = hash_field(fields, "tokenizer");
  info.tokens = fields.integer("tokens", 1);
  info.documents = fields.integer("documents", 0, info.tokens);
  info.text_bytes = fields.integer("text_bytes", 0);
  info.content_hash = hash_field(fields, "content_hash");
  if (fields.has("label_mask")) {
    info.label_mask = fields.string("label_mask");
    const bool plain = !info.label_mask.empty() && info.label_mask.find('/') == info.label_mask.npos &&
                       info.label_mask != "." && info.label_mask != "..";
    if (!plain) fields.reject("label_mask", "is not the name of a file beside the token file");
    if (fields.has("label_mask_hash")) info.label_mask_hash = hash_field(fields, "label_mask_hash");
  }
  if (fields.has("made")) {
    fields.object("made");  // checks that it is one
    info.made = fields.at("made");
  }
  fields.allow_only({"format", "version", "width", "vocabulary_size", "end_of_text", "tokenizer", "tokens",
                     "documents", "text_bytes", "content_hash", "label_mask", "label_mask_hash", "made"});
  return info;
}

std::string format_token_file_info(const TokenFileInfo& info) {
  nlohmann::json root = {{"format", kFormat},
                         {"version", kVersion},
                         {"width", static_cast<std::int64_t>(info.width)},
                         {"vocabulary_size", info.vocabulary.size},
                         {"end_of_text", info.vocabulary.end_of_text},
                         {"tokens", info.tokens},
                         {"documents", info.documents},
                         {"text_bytes", info.text_bytes},
                         {"content_hash", info.content_hash},
                         {"made", info.made}};
  if (!info.vocabulary.tokenizer.empty()) root["tokenizer"] = info.vocabulary.tokenizer;
  if (!info.label_mask.empty()) root["label_mask"] = info.label_mask;
  if (!info.label_mask_hash.empty()) root["label_mask_hash"] = info.label_mask_hash;
  return root.dump(2) + "\n";
}

}  // namespace braid::data

#include "braid/text/tokenizer_file.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "braid/io/json.h"
#include "braid/io/quote.h"
#include "braid/text/byte_alphabet.h"
#include "braid/text/pre_tokenizer_file.h"

namespace braid::text {
namespace {

using io::Fields;
using io::in_quotes;

constexpr std::int64_t kMaxId = (1 << 22) - 1;  // the token table has an entry for every id up to the largest
constexpr std::size_t kMaxAddedTokenBytes = 1024;
using Vocabulary = std::unordered_map<std::string_view, TokenId>;  // as written, in the byte alphabet

TokenizerFile::Token& token_at(TokenizerFile& file, TokenId id) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= file.tokens.size()) file.tokens.resize(index + 1);
  return file.tokens[index];
}

Vocabulary read_vocabulary(const Fields& model, TokenizerFile& file) {
  const Fields fields = model.object("vocab");
  Vocabulary vocabulary;
  for (const auto& [text, value] : fields.value().get_ref<const nlohmann::json::object_t&>()) {
    const bool ok = value.is_number_unsigned() && value.get<std::uint64_t>() <= std::uint64_t{kMaxId};
    if (!ok) {
      fail("{}: model.vocab {} is {}, expected an id from 0 to {}", model.source(), in_quotes(text),
           io::describe_json(value), kMaxId);
    }
    const auto id = value.get<TokenId>();
    TokenizerFile::Token& token = token_at(file, id);
    if (token.exists)
      fail("{}: model.vocab gives id {} to {} and another token", model.source(), id, in_quotes(text));
    const std::optional<std::string> bytes = from_byte_alphabet(text);
    token = {bytes.value_or(text), true, bytes.has_value()};
    vocabulary.emplace(text, id);
  }
  return vocabulary;
}

// Without a token for every byte some text would have no encoding.
void read_byte_ids(const Vocabulary& vocabulary, const std::string& source, TokenizerFile& file) {
  for (int byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    const std::string text = to_byte_alphabet({&character, 1});
    const auto it = vocabulary.find(text);
    require(it != vocabulary.end(),
            "{}: model.vocab has no token for byte {:#04x}, which is {} in the byte alphabet", source, byte,
            in_quotes(text));
    file.byte_ids[static_cast<std::size_t>(byte)] = it->second;
  }
}

// "a b" or ["a", "b"].
template <class Name>
std::pair<std::string, std::string> read_pair(const nlohmann::json& merge, const Name& name) {
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const auto space = text.find(' ');
    const bool ok = space != text.npos && text.find(' ', space + 1) == text.npos;
    if (!ok) fail("{} is {}, expected two tokens with a space between them", name(), in_quotes(text));
    return {text.substr(0, space), text.substr(space + 1)};
  }
  const bool ok = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
  if (!ok) fail("{} is {}, expected a pair of tokens", name(), io::describe_json(merge));
  return {merge[0].get<std::string>(), merge[1].get<std::string>()};
}

void read_merges(const Fields& model, const Vocabulary& vocabulary, TokenizerFile& file) {
  std::unordered_set<std::uint64_t> pairs;
  for (const nlohmann::json& merge : model.array("merges")) {
    const auto name = [&] { return fmt::format("{}: model.merges[{}]", model.source(), file.merges.size()); };
    const auto [left, right] = read_pair(merge, name);
    const auto id_of = [&](const std::string& text) {
      const auto it = vocabulary.find(text);
      if (it == vocabulary.end()) fail("{}: {} is not in model.vocab", name(), in_quotes(text));
      if (!file.tokens[static_cast<std::size_t>(it->second)].mergeable) {
        fail("{}: {} is not in the byte alphabet", name(), in_quotes(text));
      }
      return it->second;
    };
    const Merge ids{id_of(left), id_of(right), id_of(left + right)};
    const auto key = (static_cast<std::uint64_t>(ids.left) << 32) | static_cast<std::uint64_t>(ids.right);
    if (!pairs.insert(key).second) fail("{} repeats an earlier pair", name());
    file.merges.push_back(ids);
  }
}

void read_model(const Fields& root, TokenizerFile& file) {
  const Fields model = root.object("model");
  const std::string type = model.string("type");
  if (type != "BPE") model.reject("type", fmt::format("is {}, only BPE is supported", in_quotes(type)));
  model.allow_only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                    "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (model.number_or("dropout", 0) != 0) model.reject("dropout", "is not supported: ids would be random");
  // unk_token, fuse_unk and byte_fallback act only on bytes without a token, of which there are none.
  model.string_or("unk_token", "");
  model.boolean_or("fuse_unk", false);
  model.boolean_or("byte_fallback", false);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.string_or(key, "").empty()) model.reject(key, "is not supported");
  }
  file.ignore_merges = model.boolean_or("ignore_merges", false);
  const Vocabulary vocabulary = read_vocabulary(model, file);
  read_byte_ids(vocabulary, root.source(), file);
  read_merges(model, vocabulary, file);
}

AddedToken read_added_token(const Fields& f) {
  f.allow_only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token;
  token.id = static_cast<TokenId>(f.integer("id", 0, kMaxId));
  token.content = f.string("content");
  if (token.content.empty()) f.reject("content", "is empty");
  if (token.content.size() > kMaxAddedTokenBytes) {
    f.reject("content",
             fmt::format("has {} bytes, the limit is {}", token.content.size(), kMaxAddedTokenBytes));
  }
  token.single_word = f.boolean_or("single_word", false);
  token.lstrip = f.boolean_or("lstrip", false);
  token.rstrip = f.boolean_or("rstrip", false);
  token.special = f.boolean_or("special", false);
  token.normalized = f.boolean_or("normalized", !token.special);
  return token;
}

void read_added_tokens(const Fields& root, TokenizerFile& file) {
  if (!root.has("added_tokens")) return;
  std::unordered_set<std::string> contents;
  std::unordered_set<TokenId> ids;
  const nlohmann::json& array = root.array("added_tokens");
  for (std::size_t i = 0; i < array.size(); ++i) {
    const Fields fields(array[i], root.source(), fmt::format("added_tokens[{}]", i));
    const AddedToken added = read_added_token(fields);
    const std::string name = in_quotes(added.content);
    if (!contents.insert(added.content).second) fields.reject("content", fmt::format("repeats {}", name));
    if (!ids.insert(added.id).second) fields.reject("id", fmt::format("{} of {} is taken", added.id, name));
    TokenizerFile::Token& token = token_at(file, added.id);
    // A token may be in the vocabulary as well, under the same id.
    if (token.exists && token.bytes != added.content) {
      fields.reject("id",
                    fmt::format("{} of {} is {} in model.vocab", added.id, name, in_quotes(token.bytes)));
    }
    token = {added.content, true, token.mergeable};
    file.added_tokens.push_back(added);
  }
}

// Text that the tokenizer would add or cut: supported is only what leaves the ids alone.
void check_post_processor(const Fields& f) {
  const std::string type = f.string("type");
  if (type == "ByteLevel") return;  // moves offsets only
  if (type == "Sequence") {
    for (const nlohmann::json& child : f.array("processors")) {
      check_post_processor(Fields(child, f.source(), f.path_of("processors")));
    }
    return;
  }
  if (type != "TemplateProcessing") f.reject("type", fmt::format("{} is not supported", in_quotes(type)));
  for (const nlohmann::json& item : f.array("single")) {
    if (!item.is_object() || !item.contains("Sequence"))
      f.reject("single", "adds tokens, which is not supported");
  }
}

void check_decoder(const Fields& f) {
  const std::string type = f.string("type");
  if (type == "Sequence") {
    for (const nlohmann::json& child : f.array("decoders")) {
      check_decoder(Fields(child, f.source(), f.path_of("decoders")));
    }
  } else if (type != "ByteLevel") {
    f.reject("type", fmt::format("{} is not supported, expected ByteLevel", in_quotes(type)));
  }
}

void check_normalizer(const Fields& f) {
  const std::string type = f.string("type");
  if (type != "Sequence") f.reject("type", fmt::format("{} is not supported", in_quotes(type)));
  for (const nlohmann::json& child : f.array("normalizers")) {
    check_normalizer(Fields(child, f.source(), f.path_of("normalizers")));
  }
}

}  // namespace

TokenizerFile parse_tokenizer_file(std::string_view text, const std::string& source) {
  const nlohmann::json json = io::parse_json(text, source);
  const Fields root(json, source);
  root.allow_only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                   "post_processor", "decoder", "model"});
  for (const char* key : {"truncation", "padding"}) {
    if (root.has(key)) root.reject(key, "is not supported, expected null");
  }
  if (root.has("normalizer")) check_normalizer(root.object("normalizer"));
  if (root.has("post_processor")) check_post_processor(root.object("post_processor"));
  if (root.has("decoder")) check_decoder(root.object("decoder"));
  TokenizerFile file;
  file.pre_tokenizer = read_pre_tokenizer(root);
  read_model(root, file);
  read_added_tokens(root, file);
  return file;
}

}  // namespace braid::text

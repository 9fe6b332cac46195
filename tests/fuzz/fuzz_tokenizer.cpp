// Up to the first 0xff byte: fields laid over a small tokenizer.json (a JSON merge patch), or, where it
// starts with
// '!', a whole tokenizer.json. After it: text, which must survive encoding and decoding.
#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "braid/text/byte_alphabet.h"
#include "braid/text/tokenizer.h"
#include "check.h"

namespace {

using nlohmann::json;

json small_tokenizer() {
  json vocab = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    vocab[braid::text::to_byte_alphabet({&c, 1})] = byte;
  }
  for (const char* token : {"ab", "abc", "aa", "aaaa", "th", "the"}) vocab.emplace(token, vocab.size());
  return {{"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"model",
           {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a b", "ab c", "a a", "aa aa", "t h", "th e"}}}}};
}

// Prefix spaces and stripped white space change the text by design.
bool lossless(const std::string& file) {
  const json j = json::parse(file);
  const std::string text = j.dump();
  return text.find("\"add_prefix_space\":true") == text.npos && text.find("strip\":true") == text.npos &&
         j["pre_tokenizer"].dump().find("\"add_prefix_space\":false") != std::string::npos;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace braid;
  static const json small = small_tokenizer();
  const std::uint8_t* end = std::find(data, data + size, std::uint8_t{0xff});
  std::string file(data, end);
  const std::string input(std::min(end + 1, data + size), data + size);
  if (!file.empty() && file[0] == '!') {
    file.erase(0, 1);
  } else {
    json merged = small;
    const json patch = json::parse(file, nullptr, false);
    if (patch.is_object()) merged.merge_patch(patch);
    file = merged.dump(-1, ' ', false, json::error_handler_t::replace);
  }
  fuzz::accept_errors([&] {
    const auto tokenizer = text::parse_tokenizer_json(file, "input");
    const auto ids = tokenizer->encode(input);
    text::StreamingDecoder stream(*tokenizer);
    std::string streamed;
    for (const text::TokenId id : ids) streamed += stream.push(id);
    streamed += stream.finish();
    const std::string decoded = tokenizer->decode(ids);
    fuzz::check(streamed == decoded, "streaming and whole decoding agree");
    fuzz::check(decoded == input || !lossless(file), "text survives encoding and decoding");
  });
  return 0;
}

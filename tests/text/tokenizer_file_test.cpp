#include <string>

#include "braid/text/tokenizer.h"
#include "tests/support/files.h"
#include "tests/text/tokenizer_fixture.h"

namespace {

using namespace braid;
using namespace braid::text;
using nlohmann::json;
using test::message_of, test::small_tokenizer;

// The error for the small tokenizer with one field (a JSON pointer) set to `value`.
std::string error_with(const std::string& pointer, const json& value) {
  json file = small_tokenizer({{"a", "b"}});
  file[json::json_pointer(pointer)] = value;
  return message_of([&] { parse_tokenizer_json(file.dump(), "t.json"); });
}

void accept_with(const std::string& pointer, const json& value) {
  json file = small_tokenizer({{"a", "b"}});
  file[json::json_pointer(pointer)] = value;
  EXPECT_NO_THROW(parse_tokenizer_json(file.dump(), "t.json")) << pointer << " " << value;
}

TEST(TokenizerFile, RejectsWhatIsNotJson) {
  EXPECT_HOLDS(message_of([] { parse_tokenizer_json("{", "t.json"); }), "t.json: invalid JSON at byte ");
  EXPECT_HOLDS(message_of([] { parse_tokenizer_json("[]", "t.json"); }), "t.json: expected an object");
  EXPECT_HOLDS(message_of([] { parse_tokenizer_json("{}", "t.json"); }),
               "t.json: field 'pre_tokenizer' is missing");
}

TEST(TokenizerFile, RejectsUnsupportedSections) {
  EXPECT_HOLDS(error_with("/truncation", {{"max_length", 5}}), "t.json: field 'truncation' is not supported");
  EXPECT_HOLDS(error_with("/padding", {{"pad_id", 5}}), "t.json: field 'padding' is not supported");
  EXPECT_HOLDS(error_with("/normalizer", {{"type", "NFC"}}),
               "t.json: field 'normalizer.type' 'NFC' is not supported");
  EXPECT_HOLDS(error_with("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}}}}),
               "'Lowercase' is not supported");
  EXPECT_HOLDS(error_with("/decoder", {{"type", "Metaspace"}}),
               "field 'decoder.type' 'Metaspace' is not supported");
  EXPECT_HOLDS(error_with("/post_processor", {{"type", "BertProcessing"}}),
               "'BertProcessing' is not supported");
  EXPECT_HOLDS(error_with("/post_processor", {{"type", "TemplateProcessing"},
                                              {"single", {{{"SpecialToken", {{"id", "<s>"}}}}}}}),
               "field 'post_processor.single' adds tokens");
  EXPECT_HOLDS(error_with("/surprise", 1), "t.json: field 'surprise' is not known");
  accept_with("/normalizer", {{"type", "Sequence"}, {"normalizers", json::array()}});
  accept_with("/post_processor", {{"type", "ByteLevel"}, {"trim_offsets", false}});
  accept_with("/post_processor",
              {{"type", "TemplateProcessing"}, {"single", {{{"Sequence", {{"id", "A"}}}}}}});
  accept_with("/decoder", nullptr);
}

TEST(TokenizerFile, RejectsUnsupportedPreTokenizers) {
  const auto with_split = [](const json& fields) {
    json split = {
        {"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Isolated"}, {"invert", false}};
    split.update(fields);
    const json byte_level = {{"type", "ByteLevel"}, {"use_regex", false}};
    return json{{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}};
  };
  const std::string at = "t.json: field 'pre_tokenizer.pretokenizers[0].";
  EXPECT_HOLDS(error_with("/pre_tokenizer", with_split({{"behavior", "Removed"}})),
               at + "behavior' 'Removed' is not");
  EXPECT_HOLDS(error_with("/pre_tokenizer", with_split({{"behavior", "Odd"}})),
               at + "behavior' is 'Odd', expected");
  EXPECT_HOLDS(error_with("/pre_tokenizer", with_split({{"pattern", {{"Glob", "a"}}}})),
               "pattern.Glob' is not known");
  EXPECT_HOLDS(error_with("/pre_tokenizer", with_split({{"pattern", json::object()}})),
               "must have Regex or String");
  EXPECT_HOLDS(error_with("/pre_tokenizer", with_split({{"pattern", {{"Regex", "("}}}})),
               "pre_tokenizer.pretokenizers[0].pattern: invalid regular expression '(' at byte 1");
  EXPECT_HOLDS(error_with("/pre_tokenizer", with_split({{"type", "Whitespace"}})),
               at + "type' 'Whitespace' is not");
  EXPECT_HOLDS(error_with("/pre_tokenizer", with_split({{"type", 3}})), at + "type' is the number 3");
  EXPECT_HOLDS(error_with("/pre_tokenizer", {{"type", "Digits"}}), "field 'pre_tokenizer' has no ByteLevel");
  EXPECT_HOLDS(
      error_with("/pre_tokenizer",
                 {{"type", "Sequence"}, {"pretokenizers", {{{"type", "ByteLevel"}}, {{"type", "Digits"}}}}}),
      "pretokenizers[1].type' 'Digits' comes after ByteLevel");
  EXPECT_HOLDS(error_with("/pre_tokenizer", nullptr), "field 'pre_tokenizer' is null");
}

TEST(TokenizerFile, RejectsUnsupportedModels) {
  EXPECT_HOLDS(error_with("/model/type", "Unigram"), "t.json: field 'model.type' is 'Unigram', only BPE");
  EXPECT_HOLDS(error_with("/model/dropout", 0.1), "t.json: field 'model.dropout' is not supported");
  EXPECT_HOLDS(error_with("/model/continuing_subword_prefix", "##"),
               "'model.continuing_subword_prefix' is not");
  EXPECT_HOLDS(error_with("/model/end_of_word_suffix", "</w>"),
               "'model.end_of_word_suffix' is not supported");
  EXPECT_HOLDS(error_with("/model/ignore_merges", "yes"), "'model.ignore_merges' is the string 'yes'");
  EXPECT_HOLDS(error_with("/model/surprise", 1), "field 'model.surprise' is not known");
  accept_with("/model/dropout", nullptr);
  accept_with("/model/unk_token", "<unk>");
  accept_with("/model/end_of_word_suffix", "");
}

TEST(TokenizerFile, RejectsBadVocabularies) {
  EXPECT_HOLDS(error_with("/model/vocab", json::array()), "field 'model.vocab' expected an object");
  EXPECT_HOLDS(error_with("/model/vocab/ab", -1),
               "t.json: model.vocab 'ab' is the number -1, expected an id from 0");
  EXPECT_HOLDS(error_with("/model/vocab/ab", 1.5), "model.vocab 'ab' is the number 1.5");
  EXPECT_HOLDS(error_with("/model/vocab/ab", "x"), "model.vocab 'ab' is the string 'x'");
  EXPECT_HOLDS(error_with("/model/vocab/ab", 4'194'304), "expected an id from 0 to 4194303");
  EXPECT_HOLDS(error_with("/model/vocab/ab", 5), "t.json: model.vocab gives id 5 to ");
  json file = small_tokenizer();
  file["model"]["vocab"].erase("!");
  EXPECT_HOLDS(message_of([&] { parse_tokenizer_json(file.dump(), "t.json"); }),
               "t.json: model.vocab has no token for byte 0x21");
}

TEST(TokenizerFile, RejectsBadMerges) {
  EXPECT_HOLDS(error_with("/model/merges", "a b"),
               "field 'model.merges' is the string 'a b', expected an array");
  EXPECT_HOLDS(error_with("/model/merges/0", "ab"), "t.json: model.merges[0] is 'ab', expected two tokens");
  EXPECT_HOLDS(error_with("/model/merges/0", "a b c"), "model.merges[0] is 'a b c'");
  EXPECT_HOLDS(error_with("/model/merges/0", {"a"}),
               "t.json: model.merges[0] is an array of 1, expected a pair");
  EXPECT_HOLDS(error_with("/model/merges/0", {"a", 1}), "model.merges[0] is an array of 2, expected a pair");
  EXPECT_HOLDS(error_with("/model/merges/0", 7), "model.merges[0] is the number 7");
  EXPECT_HOLDS(error_with("/model/merges/0", {"a", "zz"}),
               "t.json: model.merges[0]: 'zz' is not in model.vocab");
  EXPECT_HOLDS(error_with("/model/merges/0", {"a", "c"}),
               "t.json: model.merges[0]: 'ac' is not in model.vocab");
  EXPECT_HOLDS(error_with("/model/merges/1", {"a", "b"}), "t.json: model.merges[1] repeats an earlier pair");
}

TEST(TokenizerFile, RejectsBadAddedTokens) {
  const auto error = [](const json& tokens) { return error_with("/added_tokens", tokens); };
  const std::string at = "t.json: field 'added_tokens[0].";
  EXPECT_HOLDS(error({{{"id", 300}}}), at + "content' is missing");
  EXPECT_HOLDS(error({{{"content", "<x>"}}}), at + "id' is missing");
  EXPECT_HOLDS(error({{{"id", -1}, {"content", "<x>"}}}), at + "id' is the number -1");
  EXPECT_HOLDS(error({{{"id", 300}, {"content", ""}}}), at + "content' is empty");
  EXPECT_HOLDS(error({{{"id", 300}, {"content", std::string(1025, 'x')}}}), at + "content' has 1025 bytes");
  EXPECT_HOLDS(error({{{"id", 300}, {"content", "<x>"}, {"lstrip", 1}}}), at + "lstrip' is the number 1");
  EXPECT_HOLDS(error({{{"id", 300}, {"content", "<x>"}, {"odd", 1}}}), at + "odd' is not known");
  EXPECT_HOLDS(error({{{"id", 5}, {"content", "<x>"}}}), at + "id' 5 of '<x>' is ");
  EXPECT_HOLDS(error({{{"id", 300}, {"content", "<x>"}}, {{"id", 301}, {"content", "<x>"}}}),
               "'added_tokens[1].content' repeats '<x>'");
  EXPECT_HOLDS(error({{{"id", 300}, {"content", "<x>"}}, {{"id", 300}, {"content", "<y>"}}}),
               "'added_tokens[1].id' 300 of '<y>' is taken");
  EXPECT_HOLDS(error({3}), "field 'added_tokens[0]' expected an object");
  accept_with("/added_tokens", {{{"id", 256}, {"content", "ab"}}});  // in the vocabulary under this id
}

TEST(TokenizerFile, EndOfTextIsAnAddedToken) {
  const auto end_of = [](const json& tokens) {
    json file = small_tokenizer();
    file["added_tokens"] = tokens;
    return parse_tokenizer_json(file.dump(), "t.json")->end_of_text();
  };
  EXPECT_EQ(end_of(json::array()), std::nullopt);
  EXPECT_EQ(end_of({{{"id", 300}, {"content", "</s>"}}}), 300);
  EXPECT_EQ(end_of({{{"id", 300}, {"content", "</s>"}}, {{"id", 301}, {"content", "<|endoftext|>"}}}), 301);
}

}  // namespace

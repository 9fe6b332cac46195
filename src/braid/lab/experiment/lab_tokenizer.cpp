#include "braid/lab/experiment/lab_tokenizer.h"

#include <cctype>

#include "braid/io/json.h"
#include "braid/io/quote.h"

namespace braid::lab {

LabTokenizer LabTokenizer::of_model(const std::filesystem::path& directory) {
  const auto path = directory / kFileName;
  require(io::fs::exists(path),
          "{}: is not there: only models that the lab trained or built say their problem; "
          "name it with --problem and --form",
          path.string());
  const auto json = io::read_json(path);
  const io::Fields f(json, path.string());
  const auto form = f.string("form");
  if (form != "tokens" && form != "code") f.reject("form", "is neither 'tokens' nor 'code'");
  return {problem_named(f.string("problem")), form == "code" ? Form::code : Form::tokens};
}

std::vector<text::TokenId> LabTokenizer::encode(std::string_view text) const {
  const auto& words = vocabulary().words();
  std::vector<text::TokenId> ids;
  while (!text.empty()) {
    std::int32_t longest = -1;
    for (std::int32_t id = 0; id < std::ssize(words); ++id) {
      const auto& word = words[static_cast<std::size_t>(id)];
      const bool better = longest < 0 || word.size() > words[static_cast<std::size_t>(longest)].size();
      if (text.starts_with(word) && better) longest = id;
    }
    const bool space = std::isspace(static_cast<unsigned char>(text[0])) != 0;
    require(longest >= 0 || space, "the text has {}, which begins no word of the problem '{}'",
            io::in_quotes(text.substr(0, text.find_first_of(" \n\t"))), problem_->name());
    if (longest >= 0) ids.push_back(longest);
    text.remove_prefix(longest >= 0 ? words[static_cast<std::size_t>(longest)].size() : 1);
  }
  if (ids.empty() || ids.front() != Vocabulary::bos) ids.insert(ids.begin(), Vocabulary::bos);
  return ids;
}

std::string LabTokenizer::decode(std::span<const text::TokenId> ids) const {
  std::string text;
  for (const auto id : ids) text += (text.empty() ? "" : " ") + vocabulary().word(id);
  return text;
}

std::string LabTokenizer::file_content() const {
  const nlohmann::ordered_json json{{"problem", problem_->name()},
                                    {"form", form_ == Form::code ? "code" : "tokens"}};
  return json.dump(1) + "\n";
}

}  // namespace braid::lab

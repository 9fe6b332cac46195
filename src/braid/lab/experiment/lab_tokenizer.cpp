#include "braid/lab/experiment/lab_tokenizer.h"

#include <sstream>

#include "braid/io/json.h"

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
  std::vector<text::TokenId> ids;
  std::istringstream words{std::string(text)};
  for (std::string word; words >> word;) ids.push_back(vocabulary().id(word));
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

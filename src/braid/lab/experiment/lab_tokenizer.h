// The words of a problem as a tokenizer, so that checkpoints and models of the lab know their vocabulary.
#pragma once
#include "braid/lab/problem.h"
#include "braid/text/tokenizer.h"

namespace braid::lab {

// In a model directory: {"problem": "swaps", "form": "tokens"}. `encode` takes the longest word at
// each place, passes over white space that is no word, and puts <bos> first unless it is there.
class LabTokenizer final : public text::Tokenizer {
 public:
  static constexpr std::string_view kFileName = "lab_problem.json";

  LabTokenizer(const Problem& problem, Form form) : problem_(&problem), form_(form) {}
  // Throws, naming the file, where the directory does not say its problem.
  static LabTokenizer of_model(const std::filesystem::path& directory);

  std::vector<text::TokenId> encode(std::string_view text) const override;
  std::string decode(std::span<const text::TokenId> ids) const override;
  std::int64_t vocabulary_size() const override { return vocabulary().size(); }
  std::optional<text::TokenId> end_of_text() const override { return std::nullopt; }
  std::string_view file_name() const override { return kFileName; }
  std::string file_content() const override;

  const Problem& problem() const { return *problem_; }
  Form form() const { return form_; }
  const Vocabulary& vocabulary() const { return problem_->vocabulary(form_); }

 private:
  const Problem* problem_;
  Form form_;
};

}  // namespace braid::lab

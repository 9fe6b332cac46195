// What a model's delta-rule heads do with a text, found again from its layers.
#include "braid/lab/inspect/inspect.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "braid/backends/backends.h"
#include "tests/support/files.h"
#include "tests/support/small_models.h"

namespace braid::test {
namespace {

lab::Inspection inspected(const model::ModelConfig& config, std::int64_t tokens) {
  const auto backend = make_backend("cpu", {.threads = 1, .target = {}});
  const model::Model model{config, small_parameters(config, 3)};
  return lab::inspect(backend, model, small_ids(tokens, config.vocabulary_size, 7),
                      std::vector<std::string>(static_cast<std::size_t>(tokens), "w"));
}

// The states are right if what they give is what the forward gave; beyond one chunk too.
TEST(Inspect, StatesAgreeWithTheForward) {
  for (const auto& [name, config] : small_models()) {
    const auto inspection = inspected(config, 80);
    EXPECT_EQ(inspection.heads.empty(), !config.has_linear()) << name;
    EXPECT_LT(inspection.difference, 1e-5) << name;  // f32 over 80 tokens against f64
    for (const auto& head : inspection.heads) {
      EXPECT_EQ(head.state_norm.size(), 80U);
      EXPECT_EQ(head.erased.front(), 0);  // nothing was there
      EXPECT_NEAR(head.effective_rank.front(), 1, 1e-9);
      EXPECT_NEAR(head.state_norm.front(), head.written.front(), 1e-9 * head.written.front());
    }
  }
}

TEST(Inspect, JsonAndPageHoldEveryToken) {
  const auto models = small_models();
  const auto inspection = inspected(models[0].config, 5);
  const auto json = lab::inspection_json(inspection, "m<script>");
  EXPECT_EQ(json["words"].size(), 5U);
  EXPECT_EQ(json["heads"].size(), inspection.heads.size());
  EXPECT_EQ(json["heads"][0]["beta"].size(), 5U);
  EXPECT_EQ(json["heads"][0]["beta_quartiles"].size(), 5U);
  const auto page = lab::render_inspection(inspection, "m<script>");
  EXPECT_EQ(page.find("m<script>"), page.npos);
  EXPECT_EQ(page.find("{{"), page.npos);
  EXPECT_HOLDS(lab::inspection_text(inspection), "eigenvalue along k");
}

TEST(Inspect, TokensOutsideTheVocabularyAreRefused) {
  const auto backend = make_backend("cpu", {.threads = 1, .target = {}});
  const auto config = small_models()[0].config;
  const model::Model model{config, small_parameters(config, 3)};
  const std::vector<std::int32_t> ids = {static_cast<std::int32_t>(config.vocabulary_size)};
  EXPECT_HOLDS(message_of([&] { lab::inspect(backend, model, ids, {"w"}); }),
               "outside the model's vocabulary");
  EXPECT_HOLDS(message_of([&] { lab::inspect(backend, model, {}, {}); }), "no tokens");
}

}  // namespace
}  // namespace braid::test

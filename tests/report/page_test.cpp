// The page: hostile text stays data, long runs stay small, nothing is asked of the network.
#include "braid/report/page.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/files.h"

namespace braid::test {
namespace {

using report::RunLog;

RunLog run_of(const std::string& folder, std::size_t steps) {
  RunLog run;
  run.folder = folder;
  auto& loss = run.steps.columns["loss"];
  for (std::size_t i = 0; i < steps; ++i) {
    run.steps.step.push_back(static_cast<std::int64_t>(i) + 1);
    run.steps.tokens.push_back(4194304.0 * static_cast<double>(i + 1));
    loss.push_back(2 + 0.001 * static_cast<double>((i * 7919) % 1000) + 1.0 / 3);
  }
  return run;
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

const std::string kHostile =
    "</script><script>alert(1)</script><!--<script>]]>&lt;\" ' ` ${1} \\u003c {{data}} {{page.js}} "
    "\xe2\x80\xa8\xe2\x80\xa9 \xff\xc3 \x01 \xf0\x9f\x98\x80";

TEST(Page, TextFromAnywhereStaysData) {
  auto run = run_of("runs/" + kHostile, 3);
  run.recipe_text = run.folder.string();
  run.recipe = {{kHostile, kHostile}};
  run.samples = {{1, kHostile, kHostile}};
  run.scores = {{1, kHostile, 0.5, 2}};
  run.notices = {kHostile};
  run.validation[kHostile] = run.steps;
  run.steps.columns[kHostile] = {1, 2, 3};
  const auto plain = report::render_page({run_of("a", 3)}), page = report::render_page({run});
  for (const auto* tag : {"<script", "</script", "<!--", "<"})
    EXPECT_EQ(count(page, tag), count(plain, tag)) << tag;
  const auto data = report::page_data({run});
  for (const char c : data) ASSERT_TRUE(c >= 0x20 && c < 0x7f && c != '<' && c != '>' && c != '&') << int{c};
  // What a JSON parser makes of it is the text itself, but for the bytes that are no UTF-8.
  auto want = kHostile;
  want.replace(want.find("\xff\xc3"), 2, "\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(nlohmann::json::parse(data)["runs"][0]["samples"][0][2], want);
}

TEST(Page, IsOneFileThatAsksNothingOfTheNetwork) {
  const auto page = report::page_template();
  EXPECT_EQ(count(page, "{{"), 1u);  // every part is in its place; the data is still to come
  EXPECT_EQ(count(page, "{{data}}"), 1u);
  EXPECT_EQ(count(page, "default-src 'none'"), 1u);
  for (const auto* word :
       {"src=", "href", "import", "fetch(", "XMLHttp", "innerHTML", "insertAdjacent", "eval("}) {
    EXPECT_EQ(count(page, word), 0u) << word;
  }
  EXPECT_EQ(count(page, "http"), count(page, "http-equiv") + count(page, "http://www.w3.org/2000/svg"));
}

TEST(Page, LongRunsAreDecimatedAndKeepTheirExtremes) {
  auto run = run_of("long", 20000);
  run.steps.columns["loss"][15555] = 50;
  const auto data = nlohmann::json::parse(report::page_data({run}, {.most_points = 500}));
  const auto& series = data["runs"][0]["steps"];
  EXPECT_EQ(series["step"].size(), 500u);
  EXPECT_EQ(series["step"].back(), 20000);
  EXPECT_EQ(series["columns"]["loss"]["max"][15555 / 40], 50);
  const auto& spikes = data["runs"][0]["spikes"]["loss"];
  EXPECT_EQ(spikes["count"], 1);
  EXPECT_EQ(spikes["marks"][0][0], 15556);
  // Many columns share the numbers that the page may hold.
  for (int i = 0; i < 200; ++i) run.steps.columns["further_" + std::to_string(i)] = run.steps.columns["loss"];
  EXPECT_LT(report::render_page({run}).size(), 5'000'000u);
}

TEST(Page, SummaryNamesAndPredecessors) {
  std::vector<RunLog> runs{run_of("x/a/", 2), run_of("y/a", 2), run_of("z/b", 2)};
  EXPECT_EQ(report::run_names(runs), (std::vector<std::string>{"x/a/", "y/a", "z/b"}));
  EXPECT_EQ(report::run_names({runs[0], runs[2]}), (std::vector<std::string>{"a", "b"}));
  runs[2].recipe = {{"model.directory", "'y/a/model'"}};
  auto& validation = runs[2].validation["wiki"];
  validation.step = {0, 5, 9};
  validation.tokens = {0, 50, 90};
  validation.columns["validation_loss"] = {4, 2.5, 3};
  const auto data = nlohmann::json::parse(report::page_data(runs, {.layout = report::Layout::stages}));
  EXPECT_EQ(data["layout"], "stages");
  EXPECT_EQ(data["runs"][1]["predecessor"], -1);
  EXPECT_EQ(data["runs"][2]["predecessor"], 1);
  const auto summary = data["runs"][2]["validation"][0]["summary"]["validation_loss"];
  EXPECT_EQ(summary, (nlohmann::json{{"first", 4}, {"final", 3}, {"best", 2.5}, {"best_step", 5}}));
  EXPECT_HOLDS(message_of([] { report::render_page({}); }), "no runs");
}

}  // namespace
}  // namespace braid::test

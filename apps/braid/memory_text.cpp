#include "memory_text.h"

#include "table.h"

namespace braid::app {
namespace {

std::string kept_text(const std::array<std::int64_t, 4>& blocks) {
  constexpr const char* kWhat[] = {"their input", "products and attention",
                                   "products, attention and delta rule", "all activations"};
  std::string text;
  for (std::size_t keep = blocks.size(); keep-- > 0;) {
    if (blocks[keep] > 0) {
      text += fmt::format("{}{} keep {}", text.empty() ? "" : ", ", blocks[keep], kWhat[keep]);
    }
  }
  return text;
}

}  // namespace

std::string memory_text(const train::MemoryPlan& plan) {
  Table table({"memory plan", "bytes"});
  const auto row = [&](const char* name, std::size_t bytes) {
    if (bytes > 0) table.add({name, with_commas(static_cast<long long>(bytes))});
  };
  row("parameters", plan.parameters);
  row("gradients", plan.gradients);
  row("moments", plan.moments);
  row("bf16 copies", plan.copies);
  row("tables, losses", plan.tables);
  row("activations", plan.activations);
  row("scratch", plan.scratch);
  row("total", plan.total());
  if (plan.free != SIZE_MAX) row("free before", plan.free);
  return table.text() + "blocks: " + kept_text(plan.blocks);
}

}  // namespace braid::app

#include "braid/text/pre_tokenizer_file.h"

#include "braid/io/quote.h"

namespace braid::text {
namespace {

using io::Fields;
using io::in_quotes;

// The split that ByteLevel does on its own (from GPT-2).
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::string where(const Fields& f) { return fmt::format("{}: {}", f.source(), f.path_of("pattern")); }

Regex read_pattern(const Fields& f) {
  const Fields pattern = f.object("pattern");
  pattern.allow_only({"Regex", "String"});
  if (pattern.has("Regex") == pattern.has("String")) f.reject("pattern", "must have Regex or String");
  return pattern.has("Regex") ? Regex(pattern.string("Regex"), where(f))
                              : Regex::literal(pattern.string("String"), where(f));
}

SplitBehavior read_behavior(const Fields& f) {
  const std::string name = f.string("behavior");
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  if (name == "Removed")
    f.reject("behavior", "'Removed' is not supported: decoding could not restore the text");
  f.reject("behavior",
           fmt::format("is {}, expected Isolated, MergedWithPrevious, MergedWithNext or Contiguous",
                       in_quotes(name)));
}

SplitStep read_split(const Fields& f) {
  f.allow_only({"type", "pattern", "behavior", "invert"});
  return {read_pattern(f), read_behavior(f), f.boolean_or("invert", false)};
}

SplitStep read_digits(const Fields& f) {
  f.allow_only({"type", "individual_digits"});
  const bool individual = f.boolean_or("individual_digits", false);
  return {Regex("\\p{N}", where(f)), individual ? SplitBehavior::isolated : SplitBehavior::contiguous};
}

SplitStep read_byte_level(const Fields& f) {
  f.allow_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  f.boolean_or("trim_offsets", true);  // concerns offsets, which braid does not report
  SplitStep step{Regex(kByteLevelPattern, where(f))};
  step.add_prefix_space = f.boolean_or("add_prefix_space", true);
  step.split = f.boolean_or("use_regex", true);
  return step;
}

// `ended` tells that ByteLevel was seen: the text is in the byte alphabet from there on.
void read_step(const Fields& f, std::vector<SplitStep>& steps, bool& ended) {
  const std::string type = f.string("type");
  if (type == "Sequence") {
    f.allow_only({"type", "pretokenizers"});
    const nlohmann::json& children = f.array("pretokenizers");
    for (std::size_t i = 0; i < children.size(); ++i) {
      read_step(Fields(children[i], f.source(), f.path_of(fmt::format("pretokenizers[{}]", i))), steps,
                ended);
    }
    return;
  }
  if (ended)
    f.reject("type", fmt::format("{} comes after ByteLevel, which is not supported", in_quotes(type)));
  if (type == "Split") {
    steps.push_back(read_split(f));
  } else if (type == "Digits") {
    steps.push_back(read_digits(f));
  } else if (type == "ByteLevel") {
    steps.push_back(read_byte_level(f));
    ended = true;
  } else {
    f.reject("type", fmt::format("{} is not supported, expected Split, Digits, ByteLevel or Sequence",
                                 in_quotes(type)));
  }
}

}  // namespace

std::vector<SplitStep> read_pre_tokenizer(const Fields& root) {
  std::vector<SplitStep> steps;
  bool ended = false;
  read_step(root.object("pre_tokenizer"), steps, ended);
  if (!ended) root.reject("pre_tokenizer", "has no ByteLevel, so this is not a byte-level tokenizer");
  return steps;
}

}  // namespace braid::text

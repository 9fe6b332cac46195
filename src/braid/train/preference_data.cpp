#include "braid/train/preference_data.h"

#include <algorithm>
#include <limits>

#include "braid/data/hash.h"
#include "braid/io/compressed.h"

namespace braid::train {
namespace {

class PairReader {
 public:
  explicit PairReader(const text::Tokenizer& tokenizer) : tokenizer_(tokenizer), format_(tokenizer) {
    const auto end = tokenizer.end_of_text();
    require(end.has_value(), "data.tokenizer: has no end of text, which pads preference pairs");
    end_of_text_ = tokenizer.decode(std::span(&*end, 1));
  }

  PreferencePair read(std::string_view line, const std::string& source) const {
    const auto json = io::parse_json(line, source);
    const io::Fields fields(json, source);
    fields.allow_only({"prompt", "chosen", "rejected"});
    const bool chat = fields.at("prompt").is_array();
    const auto prompt = chat ? chat_prompt(fields) : tokenizer_.encode(fields.string("prompt"));
    if (prompt.empty())
      fields.reject("prompt", "is empty: the first token of a response needs one before it");
    const std::string_view end = chat ? text::kMessageEnd : std::string_view(end_of_text_);
    PreferencePair pair{encode(fields, "chosen", prompt, end), encode(fields, "rejected", prompt, end)};
    if (pair.chosen.ids == pair.rejected.ids) fields.reject("rejected", "is the same as 'chosen'");
    return pair;
  }

 private:
  std::vector<text::TokenId> chat_prompt(const io::Fields& fields) const {
    const auto messages = format_.read_messages(fields, "prompt");
    if (messages.back().role == text::Role::assistant) {
      fields.reject("prompt",
                    "ends with a message of the assistant, which 'chosen' and 'rejected' are to be");
    }
    return format_.encode_prompt(messages);
  }
  text::ChatTokens encode(const io::Fields& fields, std::string_view key,
                          const std::vector<text::TokenId>& prompt, std::string_view end) const {
    const auto answer = fields.string(key);
    format_.require_plain(answer, fmt::format("{}: field '{}'", fields.source(), key));
    return format_.encode_answer(prompt, answer, end);
  }

  const text::Tokenizer& tokenizer_;
  text::ChatFormat format_;
  std::string end_of_text_;
};

void add(data::Hash64& hash, const text::ChatTokens& tokens) {
  hash.update(static_cast<std::uint64_t>(tokens.ids.size()));
  hash.update(std::as_bytes(std::span(tokens.ids)));
  hash.update(std::as_bytes(std::span(tokens.targets)));
}

void put_row(data::Batch& batch, std::size_t row, const text::ChatTokens& tokens) {
  const auto length = static_cast<std::size_t>(batch.sequence_length), begin = row * length;
  require(tokens.ids.size() <= length, "a preference sequence of {} tokens is longer than {}",
          tokens.ids.size(), length);
  for (std::size_t t = 0; t < tokens.ids.size(); ++t) {
    batch.ids[begin + t] = tokens.ids[t];
    if (t == 0 || tokens.targets[t] == 0) continue;
    batch.targets[begin + t - 1] = tokens.ids[t];
    ++batch.predicted;
  }
}

}  // namespace

Preferences read_preferences(const std::vector<fs::path>& files, const text::Tokenizer& tokenizer,
                             std::int64_t sequence_length, const StopFunction& stop) {
  const PairReader reader(tokenizer);
  Preferences out;
  data::Hash64 hash;
  const auto limit = static_cast<std::size_t>(sequence_length);
  for (const auto& file : files) {
    io::for_each_line(file, [&](std::string_view line, std::int64_t number) {
      if (line.find_first_not_of(" \t\r") == line.npos) return true;
      stop_if(stop);
      auto pair = reader.read(line, fmt::format("{}:{}", file.string(), number));
      if (std::max(pair.chosen.ids.size(), pair.rejected.ids.size()) > limit) {
        ++out.left_out;
        return true;
      }
      add(hash, pair.chosen);
      add(hash, pair.rejected);
      out.pairs.push_back(std::move(pair));
      return true;
    });
  }
  require(!out.pairs.empty(), "data.preferences: {} holds no pair that fits data.sequence_length {}{}",
          files.empty() ? "nothing" : files.front().string(), sequence_length,
          out.left_out == 0 ? "" : fmt::format("; {} are longer", out.left_out));
  out.hash = hash.hex();
  return out;
}

data::Batch assemble_pairs(const Preferences& preferences, std::span<const std::int64_t> pairs,
                           std::int64_t sequence_length, text::TokenId padding) {
  data::Batch batch;
  batch.instances = 2 * static_cast<std::int64_t>(pairs.size());
  batch.sequence_length = sequence_length;
  require(batch.instances <= std::numeric_limits<std::int32_t>::max() / sequence_length,
          "a batch of {} sequences of {} tokens is too large for 32-bit offsets", batch.instances,
          sequence_length);
  const auto total = static_cast<std::size_t>(batch.instances * sequence_length);
  batch.ids.assign(total, padding);
  batch.targets.assign(total, -1);
  for (std::int64_t row = 0; row < batch.instances; ++row) {
    for (std::int64_t t = 0; t < sequence_length; ++t)
      batch.positions.push_back(static_cast<std::int32_t>(t));
    batch.segment_offsets.push_back(static_cast<std::int32_t>(row * sequence_length));
  }
  batch.segment_offsets.push_back(static_cast<std::int32_t>(total));
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto& pair = preferences.pairs[static_cast<std::size_t>(pairs[i])];
    put_row(batch, 2 * i, pair.chosen);
    put_row(batch, 2 * i + 1, pair.rejected);
  }
  return batch;
}

}  // namespace braid::train

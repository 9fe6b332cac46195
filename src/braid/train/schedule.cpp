#include "braid/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "braid/train/config.h"

namespace braid::train {
namespace {

std::int64_t nearest_count(double x) { return static_cast<std::int64_t>(std::llround(x)); }

// Which of the keys is given; the empty string: none. Two are an error.
std::string only_one_of(const io::TomlFields& f, std::initializer_list<std::string_view> keys) {
  std::string found;
  for (const auto key : keys) {
    if (!f.has(key)) continue;
    if (!found.empty()) f.reject(key, fmt::format("and '{}' are both given; keep one", found));
    found = key;
  }
  return found;
}

std::int64_t read_warmup(const io::TomlFields& f, const RunConfig& c) {
  const auto key = only_one_of(f, {"warmup_steps", "warmup_tokens", "warmup_fraction"});
  if (key.empty()) return 0;
  const auto steps = key == "warmup_steps" ? f.integer(key, 0, kMaxCount)
                     : key == "warmup_tokens"
                         ? steps_for_tokens(c, f.integer(key, 0, kMaxTokens))
                         : nearest_count(f.number(key, 0, 1) * static_cast<double>(c.steps));
  if (steps > c.steps) f.reject(key, fmt::format("is {} steps, more than the run's {}", steps, c.steps));
  return steps;
}

// Last steps of the periods.
std::vector<std::int64_t> read_periods(const io::TomlFields& f, const RunConfig& c) {
  const auto key = only_one_of(f, {"period_end_steps", "period_end_tokens"});
  if (key.empty())
    f.reject("period_end_steps", "or 'period_end_tokens' is missing: decay = \"wsd-s\" needs it");
  const bool tokens = key == "period_end_tokens";
  auto ends = f.integers(key, 1, tokens ? kMaxTokens : kMaxCount);
  if (tokens) {
    for (auto& end : ends) end = steps_for_tokens(c, end);
  }
  if (ends.empty() || std::ranges::adjacent_find(ends, std::greater_equal{}) != ends.end()) {
    f.reject(key, "must name at least one end, each at least a step after the one before");
  }
  if (ends.back() < c.steps) {
    f.reject(key, fmt::format("ends the last period at step {}, before the run's last step {}", ends.back(),
                              c.steps));
  }
  return ends;
}

// The periods' borders around a step: (begin, end].
struct Period {
  std::int64_t begin = 0, end = 0;
  std::int64_t decay_steps(double fraction) const {
    return std::clamp<std::int64_t>(nearest_count(fraction * static_cast<double>(end - begin)), 1,
                                    end - begin);
  }
};
Period period_of(const std::vector<std::int64_t>& ends, std::int64_t step) {
  const auto end = std::ranges::lower_bound(ends, step);
  if (end == ends.end()) return {step - 1, step};  // past the last one: decayed
  return {end == ends.begin() ? 0 : *(end - 1), *end};
}

void read_wsd(const io::TomlFields& f, const RunConfig& c, ScheduleConfig& s) {
  std::int64_t stable_and_decay = c.steps, decay = 0;
  if (s.decay == Decay::wsd) {
    const auto key = only_one_of(f, {"decay_steps", "decay_fraction"});
    const auto fraction = f.number_or("decay_fraction", s.decay_fraction, 0, 1);
    s.decay_steps =
        key == "decay_steps" ? f.integer(key, 1, kMaxCount) : Period{0, c.steps}.decay_steps(fraction);
    decay = s.decay_steps;
  } else {
    s.decay_fraction = f.number_or("decay_fraction", s.decay_fraction, 0, 1);
    s.period_ends = read_periods(f, c);
    stable_and_decay = s.period_ends.front();
    decay = Period{0, stable_and_decay}.decay_steps(s.decay_fraction);
  }
  if (s.warmup_steps + decay > stable_and_decay) {
    f.reject("decay", fmt::format("takes {} steps and warm-up {}, more than the {} there are", decay,
                                  s.warmup_steps, stable_and_decay));
  }
}

// 1 at the peak, 0 at the end of decay.
double shape_of(const ScheduleConfig& s, std::int64_t step, std::int64_t steps) {
  const auto left = [](std::int64_t at, std::int64_t end, std::int64_t decay) {
    return std::clamp(static_cast<double>(end - at) / static_cast<double>(decay), 0.0, 1.0);
  };
  switch (s.decay) {
    case Decay::constant:
      return 1;
    case Decay::wsd:
      return left(step, steps, s.decay_steps);
    case Decay::wsd_s: {
      const auto period = period_of(s.period_ends, step);
      return left(step, period.end, period.decay_steps(s.decay_fraction));
    }
    case Decay::linear:
    case Decay::cosine:
      break;
  }
  if (steps <= s.warmup_steps) return 1;
  const double progress =
      static_cast<double>(step - s.warmup_steps) / static_cast<double>(steps - s.warmup_steps);
  return s.decay == Decay::linear ? 1 - progress : 0.5 * (1 + std::cos(std::numbers::pi * progress));
}

// So that no count of tokens leaves 64 bits.
void check_tokens(const io::TomlFields& f, std::string_view key, std::int64_t steps, const RunConfig& c) {
  if (steps > kMaxTokens / (c.batch_size * c.data.sequence_length)) {
    f.reject(key, fmt::format("{} times batch_size {} and data.sequence_length {} is more than 2^50 tokens",
                              steps, c.batch_size, c.data.sequence_length));
  }
}

void read_batch_warmup(const io::TomlFields& f, RunConfig& c) {
  std::int64_t before = 1;
  for (const auto& [until, batch] : f.integer_pairs("batch_warmup", 1, kMaxCount)) {
    if (until <= before) {
      f.reject("batch_warmup",
               fmt::format("must give rising steps, from 2 on: {} follows {}", until, before));
    }
    if (batch > c.batch_size || batch % c.micro_batch_size != 0) {
      f.reject("batch_warmup",
               fmt::format("has a batch of {}, expected a multiple of micro_batch_size {} up to "
                           "batch_size {}",
                           batch, c.micro_batch_size, c.batch_size));
    }
    check_tokens(f, "batch_warmup", until, c);
    c.batch_warmup.push_back({until, batch});
    before = until;
  }
}

}  // namespace

void read_steps(const io::TomlFields& f, RunConfig& c) {
  c.batch_size = f.integer_or("batch_size", 8, 1, kMaxSize);
  c.micro_batch_size = f.integer_or("micro_batch_size", c.batch_size, 1, c.batch_size);
  if (c.batch_size % c.micro_batch_size != 0) {
    f.reject("micro_batch_size",
             fmt::format("{} does not divide batch_size {}", c.micro_batch_size, c.batch_size));
  }
  read_batch_warmup(f, c);
  const bool tokens = only_one_of(f, {"steps", "tokens"}) == "tokens";
  c.steps =
      tokens ? steps_for_tokens(c, f.integer("tokens", 1, kMaxTokens)) : f.integer("steps", 1, kMaxCount);
  check_tokens(f, tokens ? "tokens" : "steps", c.steps, c);
  for (const auto& [first, last] : f.integer_pairs("skip_steps", 1, kMaxCount)) {
    if (first > last) f.reject("skip_steps", fmt::format("has the range {} to {}", first, last));
    c.skip_steps.push_back({first, last});
  }
}

ScheduleConfig read_schedule_config(const io::TomlFields& f, const RunConfig& c) {
  ScheduleConfig s;
  s.peak = f.number_or("learning_rate", 3e-4, 0, 1e3);
  s.warmup_steps = read_warmup(f, c);
  s.decay = choose<Decay>(f, "decay", "cosine",
                          {{"cosine", Decay::cosine},
                           {"linear", Decay::linear},
                           {"constant", Decay::constant},
                           {"wsd", Decay::wsd},
                           {"wsd-s", Decay::wsd_s}});
  const bool stable = s.decay == Decay::wsd || s.decay == Decay::wsd_s;
  s.final_fraction = f.number_or("final_fraction", stable ? 0 : 0.1, 0, 1);
  const auto goes_with = [&](std::string_view key, bool fits) {
    if (f.has(key) && !fits) f.reject(key, "does not go with this 'decay'");
  };
  goes_with("decay_fraction", stable);
  goes_with("decay_steps", s.decay == Decay::wsd);
  goes_with("period_end_steps", s.decay == Decay::wsd_s);
  goes_with("period_end_tokens", s.decay == Decay::wsd_s);
  if (stable) read_wsd(f, c, s);
  return s;
}

double learning_rate(const ScheduleConfig& s, std::int64_t step, std::int64_t steps) {
  if (step <= s.warmup_steps) return s.peak * static_cast<double>(step) / static_cast<double>(s.warmup_steps);
  if (s.decay == Decay::constant) return s.peak;
  return s.peak * (s.final_fraction + (1 - s.final_fraction) * shape_of(s, step, steps));
}

bool ends_period(const ScheduleConfig& s, std::int64_t step) {
  return s.decay == Decay::wsd_s && std::ranges::binary_search(s.period_ends, step);
}

std::int64_t instances_in(const RunConfig& c, std::int64_t step) {
  for (const auto& warmup : c.batch_warmup) {
    if (step < warmup.until_step) return warmup.batch_size;
  }
  return c.batch_size;
}

std::int64_t instances_before(const RunConfig& c, std::int64_t step) {
  std::int64_t begin = 1, sum = 0;
  for (const auto& [until, batch] : c.batch_warmup) {
    if (step <= begin) break;
    sum += (std::min(step, until) - begin) * batch;
    begin = until;
  }
  return sum + std::max<std::int64_t>(step - begin, 0) * c.batch_size;
}

std::int64_t tokens_through(const RunConfig& c, std::int64_t step) {
  return instances_before(c, step + 1) * c.data.sequence_length;
}

std::int64_t steps_for_tokens(const RunConfig& c, std::int64_t tokens) {
  const auto rounded_up = [](std::int64_t a, std::int64_t b) { return a / b + (a % b != 0 ? 1 : 0); };
  std::int64_t left = rounded_up(tokens, c.data.sequence_length), begin = 1;
  for (const auto& [until, batch] : c.batch_warmup) {
    const auto taken = (until - begin) * batch;
    if (left <= taken) return begin - 1 + rounded_up(left, batch);
    left -= taken;
    begin = until;
  }
  return begin - 1 + rounded_up(left, c.batch_size);
}

bool skips(const RunConfig& c, std::int64_t step) {
  return std::ranges::any_of(c.skip_steps,
                             [&](const StepRange& r) { return r.first <= step && step <= r.last; });
}

}  // namespace braid::train

#include "braid/lab/problems/interpreter.h"

#include <algorithm>

#include "braid/core/error.h"

namespace braid::lab {
namespace {

constexpr int kMaxNesting = 200;                          // of brackets, as CPython's own limit
constexpr std::int64_t kLargest = std::int64_t{1} << 31;  // far above every integer word

}  // namespace

struct Interpreter::Value {
  std::int64_t number = 0;
  std::optional<std::vector<std::int64_t>> list;  // then `number` means nothing
};

// Recursive descent over one line:
//   line    assert expr == | if expr : change | change | from operator import … | # . . .
//   change  target, … = expr, … | target ^= expr          target  variable | bits | bits[expr]
//   expr    product { + product }     product  atom { % atom }
//   atom    integer | variable | bits[expr] | [expr, …] | (expr) | function(expr, …)
class Interpreter::Parser {
 public:
  Parser(Interpreter& machine, std::span<const std::int32_t> line) : m_(machine), line_(line) {}

  std::optional<std::int64_t> run() {
    switch (peek()) {
      case code::assert_word: {
        take();
        const auto value = number(expression());
        expect(code::equals);
        finish();
        return value;
      }
      case code::if_word: {
        take();
        const bool chosen = number(expression()) != 0;
        expect(code::colon);
        change(chosen);
        break;
      }
      case code::from:
        for (const auto word : {code::from, code::operator_module, code::import, code::and_function,
                                code::comma, code::or_function, code::comma, code::not_function})
          expect(word);
        break;
      case code::comment:
        take();
        while (peek() == code::dot) take();
        break;
      default:
        change(true);
    }
    finish();
    return std::nullopt;
  }

 private:
  struct Target {
    std::int32_t word;
    std::optional<std::int64_t> index;  // of bits[index]
  };

  std::int32_t peek() const { return next_ < line_.size() ? line_[next_] : -1; }
  std::int32_t take() { return line_[next_++]; }
  [[noreturn]] void reject(std::string_view expected) const {
    fail("'{}': expected {} {}", shown(), expected,
         next_ < line_.size() ? fmt::format("at word {}, '{}'", next_, code::vocabulary().word(peek()))
                              : std::string("behind it"));
  }
  std::string shown() const {  // lists may be long
    constexpr std::size_t kShown = 60;
    const auto text = code::text(line_);
    return text.size() <= kShown ? text : text.substr(0, kShown) + " …";
  }
  void expect(std::int32_t word) {
    if (peek() != word) reject(fmt::format("'{}'", code::vocabulary().word(word)));
    take();
  }
  void finish() const {
    if (next_ != line_.size()) reject("the line's end");
  }
  template <class... Args>
  void demand(bool ok, fmt::format_string<Args...> format, Args&&... args) const {
    if (!ok) fail("'{}': {}", shown(), fmt::format(format, std::forward<Args>(args)...));
  }

  static std::int64_t index_of(std::int32_t variable) { return variable - code::a; }
  static bool is_variable(std::int32_t word) { return word >= code::a && word <= code::e; }
  std::int64_t number(const Value& value) const {
    demand(!value.list, "a list stands where a number is expected");
    return value.number;
  }

  std::int64_t bit_index() {
    enter();
    expect(code::open_bracket);
    const auto index = number(expression());
    expect(code::close_bracket);
    --nesting_;
    demand(m_.bits_.has_value(), "bits has no value yet");
    demand(index < static_cast<std::int64_t>(m_.bits_->size()), "the index {} is outside bits, of {}", index,
           m_.bits_->size());
    return index;
  }

  void enter() { demand(++nesting_ <= kMaxNesting, "brackets are nested more than {} deep", kMaxNesting); }

  Target target() {
    if (!is_variable(peek()) && peek() != code::bits) reject("a variable");
    Target t{.word = take(), .index = {}};
    if (t.word == code::bits && peek() == code::open_bracket) t.index = bit_index();
    return t;
  }

  void store(const Target& t, Value value) {
    if (t.word == code::bits && !t.index) {
      demand(value.list.has_value(), "bits is a list");
      m_.bits_ = std::move(value.list);
      return;
    }
    (t.index ? (*m_.bits_)[static_cast<std::size_t>(*t.index)]
             : m_.variables_[static_cast<std::size_t>(index_of(t.word))].emplace()) = number(value);
  }

  std::int64_t load(const Target& t) const {
    if (t.index) return (*m_.bits_)[static_cast<std::size_t>(*t.index)];
    demand(t.word != code::bits, "a list stands where a number is expected");
    const auto& value = m_.variables_[static_cast<std::size_t>(index_of(t.word))];
    demand(value.has_value(), "{} has no value yet", code::vocabulary().word(t.word));
    return *value;
  }

  // Evaluates in any case, so that what is not run is still held to the grammar.
  void change(bool chosen) {
    std::vector<Target> targets = {target()};
    while (peek() == code::comma) take(), targets.push_back(target());
    if (peek() == code::flip) {
      take();
      demand(targets.size() == 1, "^= has one target");
      const auto value = load(targets[0]) ^ number(expression());
      if (chosen) store(targets[0], {.number = value, .list = {}});
      return;
    }
    expect(code::assign);
    auto values = expressions();
    if (targets.size() > 1 && values.size() == 1 && values[0].list) {
      const auto list = std::move(*values[0].list);
      values.clear();
      for (const auto value : list) values.push_back({.number = value, .list = {}});
    }
    // Python would find the place of bits[a] only after it has stored into a.
    const auto in_bits = std::ranges::count_if(targets, [](const Target& t) { return t.index.has_value(); });
    demand(targets.size() == 1 || in_bits == 0, "one of several targets is in bits");
    demand(targets.size() == values.size(), "{} values for {} targets", values.size(), targets.size());
    for (std::size_t i = 0; chosen && i < targets.size(); ++i) store(targets[i], std::move(values[i]));
  }

  std::vector<Value> expressions() {
    std::vector<Value> values;
    values.push_back(expression());
    while (peek() == code::comma) take(), values.push_back(expression());
    return values;
  }

  Value expression() {
    auto value = product();
    while (peek() == code::plus) {
      take();
      value.number = number(value) + number(product());
      demand(value.number <= kLargest, "a number is larger than {}", kLargest);
    }
    return value;
  }

  Value product() {
    auto value = atom();
    while (peek() == code::modulo) {
      take();
      const auto divisor = number(atom());
      demand(divisor != 0, "modulo by 0");
      value.number = number(value) % divisor;
    }
    return value;
  }

  Value atom() {
    const auto word = peek();
    if (word >= code::zero) return {.number = take() - code::zero, .list = {}};
    if (is_variable(word)) return {.number = load({.word = take(), .index = {}}), .list = {}};
    if (word == code::bits) return {.number = load(target()), .list = {}};
    enter();
    Value value;
    if (word == code::open_bracket) {
      take();
      value.list.emplace();
      for (const auto& item : expressions()) value.list->push_back(number(item));
      expect(code::close_bracket);
    } else if (word == code::open) {
      take();
      value = expression();
      expect(code::close);
    } else {
      value = call();
    }
    --nesting_;
    return value;
  }

  Value call() {
    const auto function = peek();
    const bool two = function == code::and_function || function == code::or_function;
    if (!two && function != code::not_function && function != code::range) reject("a value");
    take();
    expect(code::open);
    const auto x = number(expression());
    if (two) expect(code::comma);
    const auto y = two ? number(expression()) : 0;
    expect(code::close);
    Value value;
    if (function == code::range) {
      demand(x <= code::kIntegers, "range({}) is longer than {}", x, code::kIntegers);
      value.list.emplace();
      for (std::int64_t i = 0; i < x; ++i) value.list->push_back(i);
      return value;
    }
    value.number = function == code::and_function  ? (x & y)
                   : function == code::or_function ? (x | y)
                                                   : x == 0;
    if (m_.recording_) {
      const auto arguments = two ? fmt::format("{}, {}", x, y) : fmt::format("{}", x);
      m_.calls_.push_back(
          fmt::format("{}({}) = {}", code::vocabulary().word(function), arguments, value.number));
    }
    return value;
  }

  Interpreter& m_;
  std::span<const std::int32_t> line_;
  std::size_t next_ = 0;
  int nesting_ = 0;
};

std::optional<std::int64_t> Interpreter::run(std::span<const std::int32_t> line) {
  calls_.clear();
  return Parser(*this, line).run();
}

std::string Interpreter::variables() const {
  std::string text;
  for (std::size_t v = 0; v < variables_.size(); ++v) {
    if (!variables_[v]) continue;
    const auto& name = code::vocabulary().word(code::variable(static_cast<std::int64_t>(v)));
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, *variables_[v]);
  }
  return text;
}

std::string Interpreter::bits() const {
  std::string text;
  for (const auto bit : bits_.value_or(std::vector<std::int64_t>{})) text += std::to_string(bit);
  return text;
}

}  // namespace braid::lab

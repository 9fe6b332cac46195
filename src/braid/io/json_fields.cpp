#include <algorithm>

#include "braid/io/json.h"
#include "braid/io/quote.h"

namespace braid::io {
namespace {

using Json = nlohmann::json;

[[noreturn]] void wrong(const Fields& fields, std::string_view key, const Json& found,
                        const std::string& expected) {
  fields.reject(key, fmt::format("is {}, expected {}", describe_json(found), expected));
}

std::string range_text(std::string_view what, std::int64_t min, std::int64_t max) {
  if (min == Fields::kMin && max == Fields::kMax) return std::string(what);
  if (max == Fields::kMax) return fmt::format("{} of at least {}", what, min);
  return fmt::format("{} from {} to {}", what, min, max);
}

bool is_integer_in(const Json& v, std::int64_t min, std::int64_t max) {
  if (!v.is_number_integer()) return false;
  if (v.is_number_unsigned() && v.get<std::uint64_t>() > static_cast<std::uint64_t>(Fields::kMax))
    return false;
  return v.get<std::int64_t>() >= min && v.get<std::int64_t>() <= max;
}

// The elements of array `key`, each accepted by `ok` and converted to T.
template <class T, class Ok>
std::vector<T> elements(const Fields& fields, std::string_view key, const std::string& expected, Ok&& ok) {
  std::vector<T> out;
  for (const Json& v : fields.array(key)) {
    if (!ok(v)) wrong(fields, fmt::format("{}[{}]", key, out.size()), v, expected);
    out.push_back(v.get<T>());
  }
  return out;
}

}  // namespace

Fields::Fields(const Json& object, std::string source, std::string where)
    : object_(&object), source_(std::move(source)), where_(std::move(where)) {
  if (object.is_object()) return;
  const std::string name = where_.empty() ? "" : " field " + in_quotes(where_);
  fail("{}:{} expected an object, found {}", source_, name, describe_json(object));
}

std::string Fields::path_of(std::string_view key) const {
  return where_.empty() ? std::string(key) : where_ + "." + std::string(key);
}

void Fields::reject(std::string_view key, std::string_view problem) const {
  fail("{}: field {} {}", source_, in_quotes(path_of(key)), problem);
}

const Json* Fields::find(std::string_view key) const {
  const auto it = object_->find(std::string(key));
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

const Json& Fields::at(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) reject(key, object_->contains(std::string(key)) ? "is null" : "is missing");
  return *value;
}

std::int64_t Fields::integer(std::string_view key, std::int64_t min, std::int64_t max) const {
  const Json& v = at(key);
  if (!is_integer_in(v, min, max)) wrong(*this, key, v, range_text("an integer", min, max));
  return v.get<std::int64_t>();
}

std::int64_t Fields::integer_or(std::string_view key, std::int64_t fallback, std::int64_t min,
                                std::int64_t max) const {
  return has(key) ? integer(key, min, max) : fallback;
}

double Fields::number(std::string_view key, double min, double max) const {
  const Json& v = at(key);
  const bool bounded = min != -kInfinity || max != kInfinity;
  const std::string expected = bounded ? fmt::format("a number from {} to {}", min, max) : "a number";
  if (!v.is_number() || !(v.get<double>() >= min && v.get<double>() <= max)) wrong(*this, key, v, expected);
  return v.get<double>();
}

double Fields::number_or(std::string_view key, double fallback, double min, double max) const {
  return has(key) ? number(key, min, max) : fallback;
}

bool Fields::boolean(std::string_view key) const {
  const Json& v = at(key);
  if (!v.is_boolean()) wrong(*this, key, v, "true or false");
  return v.get<bool>();
}

bool Fields::boolean_or(std::string_view key, bool fallback) const {
  return has(key) ? boolean(key) : fallback;
}

std::string Fields::string(std::string_view key) const {
  const Json& v = at(key);
  if (!v.is_string()) wrong(*this, key, v, "a string");
  return v.get<std::string>();
}

std::string Fields::string_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? string(key) : std::string(fallback);
}

const Json& Fields::array(std::string_view key) const {
  const Json& v = at(key);
  if (!v.is_array()) wrong(*this, key, v, "an array");
  return v;
}

std::vector<std::int64_t> Fields::integers(std::string_view key, std::int64_t min, std::int64_t max) const {
  return elements<std::int64_t>(*this, key, range_text("an integer", min, max),
                                [&](const Json& v) { return is_integer_in(v, min, max); });
}

std::vector<double> Fields::numbers(std::string_view key) const {
  return elements<double>(*this, key, "a number", [](const Json& v) { return v.is_number(); });
}

std::vector<std::string> Fields::strings(std::string_view key) const {
  return elements<std::string>(*this, key, "a string", [](const Json& v) { return v.is_string(); });
}

Fields Fields::object(std::string_view key) const { return Fields(at(key), source_, path_of(key)); }

void Fields::allow_only(std::initializer_list<std::string_view> known) const {
  for (const auto& [key, value] : object_->items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    reject(key, "is not known" + did_you_mean(key, std::vector<std::string>(known.begin(), known.end())));
  }
}

}  // namespace braid::io

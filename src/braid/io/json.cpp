#include "braid/io/json.h"

#include <algorithm>

#include "braid/io/quote.h"

namespace braid::io {
namespace {

using nlohmann::json;

// Builds the value while it checks what nlohmann's own builder lets pass: duplicate keys and depth.
class StrictBuilder : public json::json_sax_t {
 public:
  explicit StrictBuilder(const std::string& source) : source_(source) {}
  json take() { return std::move(root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(json::number_integer_t v) override { return put(v); }
  bool number_unsigned(json::number_unsigned_t v) override { return put(v); }
  bool number_float(json::number_float_t v, const std::string&) override { return put(v); }
  bool string(std::string& v) override { return put(std::move(v)); }
  bool binary(json::binary_t&) override { fail("{}: binary values are not JSON", source_); }

  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    const auto [it, fresh] = stack_.back().value->get_ref<json::object_t&>().emplace(name, nullptr);
    if (!fresh) fail("{}: key {} occurs twice in {}", source_, in_quotes(name), path());
    stack_.back().slot = &it->second;
    stack_.back().name = &it->first;
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&, const json::exception& error) override {
    std::string_view reason = error.what();
    if (const auto at = reason.find(": "); at != reason.npos) reason.remove_prefix(at + 2);
    fail("{}: invalid JSON at byte {}: {}", source_, byte, in_quotes(reason));
  }

 private:
  struct Level {
    json* value;
    json* slot;               // where the value of the last key goes; null in arrays
    const std::string* name;  // the last key
  };

  json* place(json&& value) {
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Level& top = stack_.back();
    if (top.value->is_object()) {
      *top.slot = std::move(value);
      return top.slot;
    }
    auto& elements = top.value->get_ref<json::array_t&>();
    elements.push_back(std::move(value));
    return &elements.back();
  }
  bool put(json&& value) {
    place(std::move(value));
    return true;
  }
  bool open(json&& value) {
    if (stack_.size() == kMaxJsonDepth)
      fail("{}: more than {} levels of nesting in {}", source_, kMaxJsonDepth, path());
    json* placed = place(std::move(value));
    stack_.push_back({placed, nullptr, nullptr});
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }
  // Dotted path of the object or array that is being filled.
  std::string path() const {
    std::string dotted;
    for (std::size_t i = 0; i + 1 < stack_.size(); ++i) {
      if (stack_[i].name != nullptr) dotted += (dotted.empty() ? "" : ".") + *stack_[i].name;
    }
    return dotted.empty() ? "the top level" : in_quotes(dotted);
  }

  const std::string& source_;
  json root_;
  std::vector<Level> stack_;
};

}  // namespace

json parse_json(std::string_view text, const std::string& source) {
  // The lexer takes a NUL byte for the end of the text, which would hide whatever follows.
  const auto nul = text.find('\0');
  require(nul == text.npos, "{}: invalid JSON at byte {}: NUL byte", source, nul + 1);
  StrictBuilder builder(source);
  json::sax_parse(text, &builder);
  return builder.take();
}

json read_json(const fs::path& path) { return parse_json(read_file(path), path.string()); }

std::string describe_json(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return fmt::format("an array of {}", value.size());
  if (value.is_string()) return "the string " + in_quotes(value.get_ref<const std::string&>());
  if (value.is_number()) return "the number " + value.dump();
  return value.dump();  // null, true, false
}

}  // namespace braid::io

#include "braid/report/embed.h"

#include "braid/core/error.h"

namespace braid::report {

std::string script_data(const nlohmann::ordered_json& data) {
  // All that is not ASCII is escaped, U+2028 among it. What is left to escape stands only inside strings.
  const auto text = data.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace);
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c == '<' || c == '>' || c == '&') {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out;
}

std::string filled_page(std::string_view page, std::string_view data) {
  constexpr std::string_view mark = "{{data}}";
  const auto at = page.find(mark);
  require(at != page.npos, "report: the page has no {}", mark);
  return std::string(page.substr(0, at)) + std::string(data) + std::string(page.substr(at + mark.size()));
}

}  // namespace braid::report

// Data inside a page that asks nothing of the network.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace braid::report {

// JSON that may stand inside a <script> element: ASCII, without '<', '>' or '&'. Bytes that are no UTF-8
// become U+FFFD.
std::string script_data(const nlohmann::ordered_json& data);

// The page with `data` where it says {{data}}.
std::string filled_page(std::string_view page, std::string_view data);

}  // namespace braid::report

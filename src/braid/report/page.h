// The report: one HTML page that holds its script, its style and its data, and asks nothing of the network.
#pragma once
#include "braid/report/run_log.h"

namespace braid::report {

// How the runs of a page belong together.
enum class Layout : std::uint8_t {
  comparison,  // side by side
  stages,      // each goes on from the one before it
};

struct PageOptions {
  Layout layout = Layout::comparison;
  std::size_t most_points = 2000;     // of a curve; more steps are drawn as minimum, mean and maximum
  std::size_t most_numbers = 400000;  // of all curves together, about 4 MB: many runs get fewer points each
};

// The runs in the order given. Names, texts and numbers from anywhere are safe: they are data of the page's
// script, never part of its markup.
std::string render_page(const std::vector<RunLog>& runs, const PageOptions& options = {});

// The page's data as JSON that may stand inside a <script> element: ASCII, without '<', '>' or '&'.
std::string page_data(const std::vector<RunLog>& runs, const PageOptions& options = {});

// A short name for each folder: its last part, or the path as given where two would be alike.
std::vector<std::string> run_names(const std::vector<RunLog>& runs);

// The page with {{data}} where the data goes; built from page/.
std::string_view page_template();

}  // namespace braid::report

// The lab's report: one HTML page that holds its script, its style and its data, and asks nothing of the
// network.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "braid/lab/report/summary.h"

namespace braid::lab {

struct LabPageOptions {
  std::size_t most_points = 400;  // of a learning curve; more checks are drawn as minimum, mean and maximum
};

std::string render_lab_page(const std::vector<StoredExperiment>& experiments, const LabPageOptions& = {});

// The page's data; docs/lab.md says what it holds.
nlohmann::ordered_json lab_page_data(const std::vector<StoredExperiment>& experiments, const LabPageOptions&);

// The page with {{data}} where the data goes; built from page/.
std::string_view lab_page_template();

}  // namespace braid::lab

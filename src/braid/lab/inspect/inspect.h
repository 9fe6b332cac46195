// What the delta-rule heads of a model do with a text: gates, eigenvalues, and the state they build.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "braid/model/weights.h"
#include "braid/ops/backend.h"

namespace braid::lab {

// One value for each token. The state is S (Dk, Dv) as ops/gated_delta.h has it: decayed by `decay`, erased
// along the normalised key k̂ and written to, S ← decay · (I − beta k̂ k̂ᵀ) S + beta k̂ vᵀ.
struct HeadTrace {
  std::size_t layer = 0, head = 0;  // among all layers, and among the layer's value heads
  std::vector<double> decay, beta;
  std::vector<double> eigenvalue;      // decay · (1 − beta |k̂|²): along k̂; the others are `decay`
  std::vector<double> state_norm;      // Frobenius, after the token
  std::vector<double> effective_rank;  // participation ratio (Σ σ²)² / Σ σ⁴ of S; 0 where S = 0
  std::vector<double> erased;          // Frobenius norm of decay · beta · k̂ k̂ᵀ S, of the state before
  std::vector<double> written;         // of beta · k̂ vᵀ
};

struct Inspection {
  std::vector<std::string> words;  // of the tokens
  std::vector<HeadTrace> heads;    // by layer and head; empty: the model has no delta-rule layer
  // Relative RMS between the heads' outputs found from these states and those of the ordinary forward.
  double difference = 0;
};

// Runs the model's ordinary forward on one text, and follows each head's recurrence in f64 from the layer's
// own queries, keys, values and gates. `model` lies in the backend's memory.
Inspection inspect(const Backend& backend, const model::Model& model, std::span<const std::int32_t> ids,
                   std::vector<std::string> words);

// Docs/lab.md lists the keys.
nlohmann::ordered_json inspection_json(const Inspection& inspection, const std::string& name);
std::string render_inspection(const Inspection& inspection, const std::string& name);
// For each head: quartiles of decay and beta, range of the eigenvalue, mean beta of each word.
std::string inspection_text(const Inspection& inspection);

// The page with {{data}} where the data goes; built from page/.
std::string_view inspection_template();

}  // namespace braid::lab

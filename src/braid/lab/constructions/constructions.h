// The constructions, one function each.
#pragma once
#include "braid/lab/constructions/construction.h"

namespace braid::lab {

const Construction& swap_tracker();  // swaps.cpp
const Construction& literal_swap_tracker();
const Construction& positive_swap_tracker();
const Construction& a5_words();
const Construction& attention_recall();      // recall.cpp
const Construction& delta_then_attention();  // state_based_recall.cpp
const Construction& attention_then_delta();
const Construction& barrington_formula();  // formula.cpp
const Construction& any_shape_formula();   // formula_any_shape.cpp

}  // namespace braid::lab

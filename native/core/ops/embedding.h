// Rows of a table by id, and the gradient of the table.
// N rows (tokens), V entries, D width. Row i looks up entry ids[i] + offset: tables may begin with entries of another use (OPT).
#pragma once
#include <cstdint>

namespace raylite {

/// y[N,D] = table[V,D][ids[N] + offset] + addend[N,D] (or nullptr; y may be addend). An entry outside of 0..V-1 fails the run.
template <class T>
struct EmbeddingArguments {
  const std::int32_t* ids;
  const T* table;
  const T* addend;
  T* y;
  std::int64_t n, v, d, offset;
};

/// dtable[V,D] (+)= the rows of dy[N,D] summed by entry, in the order of rows; rows of the id `padding` (-1: none) give
/// nothing. Overwrites when beta[0] is 0.
template <class T>
struct EmbeddingBackwardArguments {
  const std::int32_t* ids;
  const T* dy;
  const float* beta;
  float* dtable;
  std::int64_t n, v, d, offset, padding;
  bool accumulate;
};

}  // namespace raylite

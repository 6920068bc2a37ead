// Rows of a table by id, and the gradient of the table.
// N rows (tokens), V entries, D width. Row i looks up entry ids[i] + offset: tables may begin with entries of another use (OPT).
#pragma once
#include <cstdint>

namespace raylite {

/// y[N,D] = table[V,D][ids[N] + offset] + addend[N,D] (or nullptr; y may be addend). The table may be the entries from `start` on of
/// one with `entries`: then those of other tables are 0. An entry outside of 0..entries-1 fails the run.
template <class T>
struct EmbeddingArguments {
  const std::int32_t* ids;
  const T* table;
  const T* addend;
  T* y;
  std::int64_t n, v, d, offset, start, entries;
};

/// dtable[V,D] (+)= the rows of dy[N,D] summed by entry, in the order of rows; rows of the id `padding` (-1: none) give
/// nothing, nor do those of other tables. Overwrites when beta[0] is 0.
template <class T>
struct EmbeddingBackwardArguments {
  const std::int32_t* ids;
  const T* dy;
  const float* beta;
  float* dtable;
  std::int64_t n, v, d, offset, padding, start, entries;
  bool accumulate;
};

}  // namespace raylite

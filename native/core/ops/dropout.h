// Dropout of single elements. The derivative is the same op on the gradient: the mask is made again, not kept.
#pragma once
#include <cstdint>

namespace raylite {

/// y[N,D] = x / (1 - p) where the element is kept, else 0; y may be x. An element is dropped with probability p, rounded to
/// 1/65536. random[4] = seed (low, high), step, first row: the mask of row i is a function of seed, step, stream and
/// first row + i alone (cpu/philox.h), whatever N, the threads and the instruction set. x may be rows from `first_row` and columns from
/// `first_column` on of a larger matrix: it is dropped as that is.
template <class T>
struct DropoutArguments {
  const T* x;
  const std::int32_t* random;
  T* y;
  std::int64_t n, d, first_column, first_row;
  double probability;
  std::uint32_t stream;
};

}  // namespace raylite

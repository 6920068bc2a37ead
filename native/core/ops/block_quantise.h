// Numbers as 8-bit or 4-bit integers, block by block, as ZeRO++ sends weights and gradients (arXiv:2306.10209 §3.1). A payload of
// n numbers (n a multiple of 32): n * bits / 8 bytes of integers (of 4 bits two in a byte, the first in its lower half), then the f32
// worth of one step for each block of `block` numbers; the last block may be shorter. The same numbers as src/engine/quantise.ts.
#pragma once
#include <cstdint>

#include "core/storage.h"

namespace raylite {

/// factor = 2^bits / (2 * largest magnitude), or 1 for zeros; q = round(x * factor), ties to even; step = 1 / factor.
/// A block with a number that is not finite comes back without one that is.
/// y: `parts` payloads of x [parts * n]. As a matrix of `columns` columns the parts of y are those of x transposed.
template <class T>
struct BlockQuantiseArguments {
  const T* x;
  std::uint8_t* y;
  std::int64_t n, block, parts, columns;
  int bits;
};

/// y [parts / terms * n] from `parts` payloads: part p is the sum of those at p, p + parts / terms, …, from the first on.
template <class T>
struct BlockDequantiseArguments {
  const std::uint8_t* x;
  T* y;
  std::int64_t n, block, parts, terms;
  int bits;
};

inline std::int64_t payload_bytes(std::int64_t n, int bits, std::int64_t block) {
  return n * bits / 8 + 4 * ((n + block - 1) / block);
}

}  // namespace raylite

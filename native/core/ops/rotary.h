// Rotary position embedding (arXiv:2104.09864), in pairs (i, i + R/2), or (2i, 2i + 1) when interleaved (GPT-J).
// N rows of W columns, P positions, R rotated dims of every head.
#pragma once
#include <cstdint>

namespace raylite {

/// In each head h, beginning at column offset + h*head_stride: (a, b) -> (a cos - b sin, b cos + a sin); inverse turns
/// back (its gradient). Other columns are copied. y may be x. A position outside of 0..P-1 fails the run.
template <class T>
struct RotaryArguments {
  const T* x;
  const float* cos;
  const float* sin;
  const std::int32_t* positions;
  T* y;
  std::int64_t n, w, p;
  std::int64_t heads, rotary_dim, offset, head_stride;
  bool inverse, interleaved;
};

}  // namespace raylite

// Dense layers over frozen weights in 4 bits (QLoRA, arXiv:2305.14314 §3): y = x w^T + bias, and the gradient of the input.
// N rows, I inputs, O outputs; w is [O,I], or [I,O] when transposed, of which no more than a tile exists as T at a time.
#pragma once
#include <cstdint>

namespace raylite {

constexpr std::int64_t kNf4Block = 64;      // weights with one scale
constexpr std::int64_t kNf4Superblock = 256;  // scales with one scale of their own

/// A matrix of `rows` x `columns` values, flattened. Value e is table[nibble e] * scale(e / 64); of two values in a byte the
/// first has the high four bits. Scales are floats, or with `double_quant` bytes: scale(b) = map[byte b] * scale2(b / 256) + offset.
/// In memory, each part from a 16-byte boundary on: nibbles; then scales as floats, or offset, map and scale2, then bytes.
struct Nf4Matrix {
  const std::uint8_t* nibbles;
  const float* floats;        // scales; or offset, map[256], scale2[...]
  const std::uint8_t* bytes;  // or nullptr
  std::int64_t rows, columns;
};

/// Bytes of such a matrix in memory.
std::int64_t nf4_bytes(std::int64_t rows, std::int64_t columns, bool double_quant);

/// y[N,O] = x[N,I] w + bias[O] (or nullptr). With 16-bit T the values of w are rounded to T before they are multiplied.
template <class T>
struct LinearNf4Arguments {
  const T* x;
  Nf4Matrix w;
  const T* bias;
  T* y;
  std::int64_t n, i, o;
  bool transposed;
};

/// dx[N,I] = dy[N,O] w.
template <class T>
struct LinearNf4BackwardInputArguments {
  const T* dy;
  Nf4Matrix w;
  T* dx;
  std::int64_t n, i, o;
  bool transposed;
};

}  // namespace raylite

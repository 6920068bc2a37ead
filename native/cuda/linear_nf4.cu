// linear_nf4 and the gradient of its input: rows of w are made floats a tile at a time, which cuBLASLt then multiplies by.
#include <algorithm>

#include "cuda/elements.cuh"
#include "cuda/kernels.h"
#include "cuda/product.h"

namespace raylite::cuda {

namespace {

constexpr std::int64_t kTileElements = 16 << 20;

/// A tile is some rows of w, or some columns: those that are columns of the product, so that no sum is ever cut.
struct Tiling {
  std::int64_t columns_of_c, depth;
  std::int64_t step;  // of columns of c
};
Tiling tiling_of(const Nf4Matrix& w, bool is_by_rows) {
  const std::int64_t columns = is_by_rows ? w.rows : w.columns, depth = is_by_rows ? w.columns : w.rows;
  const std::int64_t most = std::min(columns, kTileElements / depth);
  return {columns, depth, std::max<std::int64_t>(1, most)};
}

/// Element i of a tile of `width` columns that begins at value `first` of w.
template <class T>
struct Dequantise {
  Nf4Matrix w;
  std::int64_t first, width;
  T* to;

  __device__ float scale_of(std::int64_t block) const {
    if (w.bytes == nullptr) return w.floats[block];
    // In double, rounded once, as on the CPU.
    const double map = static_cast<double>(w.floats[1 + w.bytes[block]]), scale = static_cast<double>(w.floats[257 + block / kNf4Superblock]);
    return static_cast<float>(map * scale + static_cast<double>(w.floats[0]));
  }
  template <int W>
  __device__ void at(std::int64_t i) const {
    // Quantiles of a normal distribution, with an exact 0 (QLoRA, appendix E; the digits are bitsandbytes').
    constexpr float kTable[16] = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
                                  -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
                                  0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
                                  0.7229568362236023f, 1.0f};
    const std::int64_t e = first + i / width * w.columns + i % width;
    const int pair = w.nibbles[e / 2];
    to[i] = narrow<T>(kTable[e % 2 == 0 ? pair >> 4 : pair & 15] * scale_of(e / kNf4Block));
  }
};

/// c = a w^T (+ bias) if the rows of w are the columns of c, else a w. a has n rows.
template <class T>
void product(const Nf4Matrix& w, bool is_by_rows, const T* a, std::int64_t n, const T* bias, T* c, const Team& team) {
  const Queue& queue = *team.queue;
  const Tiling tiling = tiling_of(w, is_by_rows);
  auto* tile = reinterpret_cast<T*>(team.workspace + kProductWorkspaceBytes);
  for (std::int64_t begin = 0; begin < tiling.columns_of_c; begin += tiling.step) {
    const std::int64_t count = std::min(tiling.step, tiling.columns_of_c - begin);
    const std::int64_t first = is_by_rows ? begin * w.columns : begin;
    each_element<1>(queue, count * tiling.depth, true, Dequantise<T>{w, first, is_by_rows ? w.columns : count, tile});
    Product p;
    p.type = p.result = kDTypeOf<T>;
    p.m = n, p.n = count, p.k = tiling.depth;
    p.a = a, p.a_row = tiling.depth, p.a_col = 1;
    p.b = tile, p.b_row = is_by_rows ? 1 : count, p.b_col = is_by_rows ? w.columns : 1;
    p.c = c + begin, p.ldc = tiling.columns_of_c;
    p.bias = bias == nullptr ? nullptr : bias + begin;
    multiply(queue, p, team.workspace);
  }
}

template <class T>
std::size_t tile_bytes(const Nf4Matrix& w, bool is_by_rows) {
  const Tiling tiling = tiling_of(w, is_by_rows);
  return kProductWorkspaceBytes + static_cast<std::size_t>(tiling.step * tiling.depth) * sizeof(T);
}

template <class T>
void run_forward(const LinearNf4Arguments<T>& a, const Team& team) { product(a.w, !a.transposed, a.x, a.n, a.bias, a.y, team); }
template <class T>
void run_backward(const LinearNf4BackwardInputArguments<T>& a, const Team& team) {
  product<T>(a.w, a.transposed, a.dy, a.n, nullptr, a.dx, team);
}

}  // namespace

template <class T>
Kernel<LinearNf4Arguments<T>> linear_nf4() {
  return {run_forward<T>, [](const LinearNf4Arguments<T>& a, int) { return tile_bytes<T>(a.w, !a.transposed); }};
}
template <class T>
Kernel<LinearNf4BackwardInputArguments<T>> linear_nf4_backward_input() {
  return {run_backward<T>, [](const LinearNf4BackwardInputArguments<T>& a, int) { return tile_bytes<T>(a.w, a.transposed); }};
}

RL_FOR_TYPES(linear_nf4, LinearNf4Arguments)
RL_FOR_TYPES(linear_nf4_backward_input, LinearNf4BackwardInputArguments)

}  // namespace raylite::cuda

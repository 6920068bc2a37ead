// What norms of rows have in common: a block takes a row, its threads packs of it; a residual goes in before, an addend behind.
#pragma once
#include "cuda/reduce.cuh"
#include "cuda/row_sums.cuh"

namespace raylite::cuda {

/// f(j) for the columns j at which this thread's packs of W begin.
template <int W, class F>
__device__ inline void each_pack(std::int64_t d, F f) {
  for (std::int64_t j = static_cast<std::int64_t>(threadIdx.x) * W; j < d; j += static_cast<std::int64_t>(blockDim.x) * W) f(j);
}

/// x + r at `at`, which `sum` keeps; x itself where there is no r.
template <int W, class T>
__device__ inline Pack<W> take_sum(const T* x, const T* r, T* sum, std::int64_t at) {
  Pack<W> value = load_pack<W>(x + at);
  if (r == nullptr) return value;
  const Pack<W> other = load_pack<W>(r + at);
  RL_UNROLL
  for (int i = 0; i < W; i++) value.at[i] = rounded_to<T>(value.at[i] + other.at[i]);  // what the norm sees is what the tensor holds
  store_pack<W>(sum + at, value);
  return value;
}

/// to = value + addend, which may be none, at `at`.
template <int W, class T>
__device__ inline void store_sum(T* to, const T* addend, std::int64_t at, Pack<W> value) {
  if (addend != nullptr) {
    const Pack<W> other = load_pack<W>(addend + at);
    RL_UNROLL
    for (int i = 0; i < W; i++) value.at[i] += other.at[i];
  }
  store_pack<W>(to + at, value);
}

/// A block for each row of a: `packed` where d and the addresses allow packs, else `single`.
template <class T, class Arguments, class... P>
void launch_rows(const Queue& queue, const Arguments& a, void (*packed)(Arguments), void (*single)(Arguments), const P*... operands) {
  constexpr int W = kPack<T>;
  const bool can = a.d % W == 0 && are_aligned(operands...);
  launch(queue, grid_of(a.n), dim3(threads_for(a.d, can ? W : 1)), 0, can ? packed : single, a);
}

constexpr unsigned kColumnThreads = 256;

/// The column of this thread, where a block takes kColumnThreads columns of part blockIdx.y of the rows.
__device__ inline std::int64_t own_column() { return static_cast<std::int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x; }

/// A block for so many columns of each part of the rows.
template <class Arguments>
void launch_columns(const Queue& queue, const Arguments& a, void (*kernel)(Arguments, float*), float* to) {
  const dim3 grid(grid_of(parts(a.d, kColumnThreads)).x, static_cast<unsigned>(row_parts(a.n)));
  launch(queue, grid, dim3(kColumnThreads), 0, kernel, a, to);
}

}  // namespace raylite::cuda

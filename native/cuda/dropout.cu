// dropout: a warp takes blocks of 128 columns of a row, one call of the generator per 8 elements: the counter of lane l gives
// columns l, l + 16, … of the block, as on the CPU.
#include "cuda/kernels.h"
#include "cuda/philox.cuh"
#include "cuda/storage.cuh"

namespace raylite::cuda {

namespace {

constexpr int kThreads = 256;  // 16 blocks of columns

template <class T>
__global__ void __launch_bounds__(kThreads) dropout_kernel(DropoutArguments<T> a, Masks masks, float scale, std::int64_t first_block, std::int64_t blocks) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * (kThreads / 16) + threadIdx.x / 16;
  const std::int64_t row = at / blocks, block = first_block + at % blocks;
  if (row >= a.n) return;
  const int lane = static_cast<int>(threadIdx.x % 16);
  const Words4 words = mask_words(masks, static_cast<std::uint32_t>(a.first_row + row), static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(lane));
  RL_UNROLL
  for (int v = 0; v < 8; v++) {
    const std::int64_t column = block * kMaskColumns + 16 * v + lane - a.first_column;
    if (column < 0 || column >= a.d) continue;
    const std::int64_t i = row * a.d + column;
    a.y[i] = narrow<T>(keeps(masks, words, v) ? widen(a.x[i]) * scale : 0.0f);
  }
}

template <class T>
void run_dropout(const DropoutArguments<T>& a, const Team& team) {
  const Masks masks{a.random, mask_threshold(a.probability), a.stream};
  const std::int64_t first_block = a.first_column / kMaskColumns;
  const std::int64_t blocks = parts(a.first_column + a.d, kMaskColumns) - first_block;
  launch(*team.queue, grid_of(parts(a.n * blocks, kThreads / 16)), dim3(kThreads), 0, dropout_kernel<T>, a, masks, mask_scale(masks.threshold), first_block, blocks);
}

}  // namespace

template <class T>
Kernel<DropoutArguments<T>> dropout() {
  return {run_dropout<T>, nullptr};
}

RL_FOR_TYPES(dropout, DropoutArguments)

}  // namespace raylite::cuda

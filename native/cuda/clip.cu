// sum_squares, clip_factor. Sums of squares are kept in double beyond a thread's few numbers; blocks first, then their sums.
#include "cuda/kernels.h"
#include "cuda/reduce.cuh"

namespace raylite::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kBlocksMax = 1024;
constexpr int kRun = 16;  // numbers that a thread adds up in float

std::int64_t blocks_for(std::int64_t n) {
  const std::int64_t wanted = parts(n, kThreads * kRun);
  return wanted < kBlocksMax ? wanted : kBlocksMax;
}

__global__ void __launch_bounds__(kThreads) squares_kernel(const float* g, std::int64_t n, double* to) {
  double total = 0;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads * kRun;
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kThreads * kRun; first < n; first += step) {
    float sum = 0;
    RL_UNROLL
    for (int i = 0; i < kRun; i++) {
      const std::int64_t at = first + i * kThreads + threadIdx.x;
      if (at < n) sum += g[at] * g[at];
    }
    total += static_cast<double>(sum);
  }
  total = sum_block(total);
  if (threadIdx.x == 0) to[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kThreads) total_kernel(const double* from, std::int64_t count, float* s, bool accumulate) {
  double total = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) total += from[i];
  total = sum_block(total);
  if (threadIdx.x == 0) s[0] = static_cast<float>((accumulate ? static_cast<double>(s[0]) : 0.0) + total);
}

__global__ void clip_kernel(ClipFactorArguments a) {
  const float scale = a.loss_scale == nullptr ? 1.0f : a.loss_scale[0];
  const float norm = sqrtf(a.s[0]) / scale;
  const float factor = a.max_norm / (norm + 1e-6f);
  a.norm[0] = norm;
  a.factor[0] = !(fabsf(norm) < INFINITY) ? NAN : (a.max_norm > 0 && factor < 1.0f ? factor : 1.0f) / scale;
}

void run_squares(const SumSquaresArguments& a, const Team& team) {
  auto* sums = reinterpret_cast<double*>(team.workspace);
  launch(*team.queue, grid_of(blocks_for(a.n)), dim3(kThreads), 0, squares_kernel, a.g, a.n, sums);
  launch(*team.queue, dim3(1), dim3(kThreads), 0, total_kernel, sums, blocks_for(a.n), a.s, a.accumulate);
}

std::size_t squares_bytes(const SumSquaresArguments&, int) { return static_cast<std::size_t>(kBlocksMax) * sizeof(double); }

void run_clip(const ClipFactorArguments& a, const Team& team) { launch(*team.queue, dim3(1), dim3(1), 0, clip_kernel, a); }

}  // namespace

Kernel<SumSquaresArguments> sum_squares() {
  return {run_squares, squares_bytes};
}
Kernel<ClipFactorArguments> clip_factor() {
  return {run_clip, nullptr};
}

}  // namespace raylite::cuda

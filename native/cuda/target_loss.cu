// target_loss: heads of a few columns. A thread takes a row; the sum of the rows is made in their order by one block.
#include "cuda/elements.cuh"
#include "cuda/kernels.h"
#include "cuda/reduce.cuh"

namespace raylite::cuda {

namespace {

/// log(1 + e^x) - x t without overflow.
__device__ inline float binary_cross_entropy(float x, float t) { return fmaxf(x, 0.0f) - x * t + log1pf(expf(-fabsf(x))); }

__device__ inline float sigmoid(float x) {
  if (x >= 0) return 1.0f / (1.0f + expf(-x));
  const float e = expf(x);
  return e / (1.0f + e);
}

float share_of_row(TargetLoss kind, std::int64_t l) { return kind == TargetLoss::kUpstream ? 1.0f : 1.0f / static_cast<float>(l); }

template <class T>
struct RowLoss {
  TargetLossArguments<T> a;
  float share;
  template <int W>
  __device__ void at(std::int64_t row) const {
    double sum = 0;
    for (std::int64_t j = row * a.l; j < (row + 1) * a.l; j++) {
      const float x = widen(a.x[j]), t = a.targets[j];
      if (t != t) continue;
      if (a.kind == TargetLoss::kSquaredError) sum += static_cast<double>((x - t) * (x - t));
      if (a.kind == TargetLoss::kBinaryCrossEntropy) sum += static_cast<double>(binary_cross_entropy(x, t));
      if (a.kind == TargetLoss::kUpstream) sum += static_cast<double>(x) * static_cast<double>(t);
    }
    a.row_losses[row] = static_cast<float>(sum) * share;
  }
};

__global__ void __launch_bounds__(512) total_kernel(const float* rows, std::int64_t n, const float* scale, float* loss) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += static_cast<double>(rows[i]);
  sum = sum_block(sum);
  if (threadIdx.x == 0) loss[0] = static_cast<float>(sum * static_cast<double>(scale[0]));
}

template <class T>
struct Slope {
  TargetLossBackwardArguments<T> a;
  float share;
  template <int W>
  __device__ void at(std::int64_t j) const {
    const float x = widen(a.x[j]), t = a.targets[j];
    float slope = t;
    if (a.kind == TargetLoss::kSquaredError) slope = 2 * (x - t);
    if (a.kind == TargetLoss::kBinaryCrossEntropy) slope = sigmoid(x) - t;
    a.dx[j] = narrow<T>(t == t ? a.scale[0] * share * slope : 0.0f);
  }
};

template <class T>
void run_forward(const TargetLossArguments<T>& a, const Team& team) {
  each_element<1>(*team.queue, a.n, true, RowLoss<T>{a, share_of_row(a.kind, a.l)});
  launch(*team.queue, dim3(1), dim3(512), 0, total_kernel, a.row_losses, a.n, a.scale, a.loss);
}

}  // namespace

template <class T>
Kernel<TargetLossArguments<T>> target_loss() {
  return {run_forward<T>, nullptr};
}
template <class T>
Kernel<TargetLossBackwardArguments<T>> target_loss_backward() {
  return {[](const TargetLossBackwardArguments<T>& a, const Team& team) {
            each_element<1>(*team.queue, a.n * a.l, true, Slope<T>{a, share_of_row(a.kind, a.l)});
          },
          nullptr};
}

RL_FOR_TYPES(target_loss, TargetLossArguments)
RL_FOR_TYPES(target_loss_backward, TargetLossBackwardArguments)

}  // namespace raylite::cuda

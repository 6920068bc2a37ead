// linear_cross_entropy with and without gradients. One chunk of rows at a time: logits by a product, softmax in place (which
// turns them into their gradient, in the type of x), then the two products of the gradient while the chunk is warm. Rows
// without a label take part with zeros: how many there are is not known before the run.
#include "cuda/cross_entropy.cuh"
#include "cuda/kernels.h"

namespace raylite::cuda {

namespace {

/// Row first + blockIdx.x; its logits are row blockIdx.x of the chunk.
template <class T>
__global__ void __launch_bounds__(kLossThreads) row_loss_kernel(LinearCrossEntropyArguments<T> a, std::int64_t first, Fault fault) {
  const std::int64_t row = first + blockIdx.x;
  float* logits = a.logits + static_cast<std::int64_t>(blockIdx.x) * a.v;
  const std::int64_t label = a.labels[row];
  if (label < 0 || label >= a.v) {
    if (threadIdx.x == 0) {
      if (label != -100) report(fault, row);
      a.token_losses[row] = 0;
      if (a.entropies != nullptr) a.entropies[row] = 0;
    }
    if (a.dx == nullptr) return;
    for (std::int64_t j = threadIdx.x; j < a.v; j += kLossThreads) reinterpret_cast<T*>(logits)[j] = narrow<T>(0.0f);
    return;
  }
  TopSum seen{-INFINITY, 0.0f};
  float plain = 0;
  for (std::int64_t j = threadIdx.x; j < a.v; j += kLossThreads) {
    const float logit = logit_of(a, logits, j);
    take(seen, logit);
    plain += logit;
  }
  const TopSum all = merge_block(seen);
  const float smooth = a.label_smoothing;
  const float mean = smooth == 0 ? 0 : sum_block(plain) / static_cast<float>(a.v);
  const float chosen = logit_of(a, logits, label);
  const float log_sum = logf(all.sum);
  const float z = log_sum + all.top;
  if (a.entropies != nullptr) {
    float spread = 0;
    for (std::int64_t j = threadIdx.x; j < a.v; j += kLossThreads) {
      const float below = all.top - logit_of(a, logits, j);
      spread += expf(-below) * below;
    }
    spread = sum_block(spread);
    if (threadIdx.x == 0) a.entropies[row] = log_sum + spread / all.sum;
  }
  // Differences of logits before products with them: large logits cancel.
  if (threadIdx.x == 0) a.token_losses[row] = log_sum + (all.top - chosen) + smooth * (chosen - mean) + a.z_loss * z * z;
  if (a.dx == nullptr) return;
  const float scale = a.weights == nullptr ? a.scale[0] : a.scale[0] * a.weights[row];
  const float factor = scale * (1 + 2 * a.z_loss * z) / all.sum;
  const float shared = scale * smooth / static_cast<float>(a.v);
  const float own = expf(chosen - all.top) * factor - shared - scale * (1 - smooth);
  __syncthreads();  // `chosen` has been read by all
  rewrite_row<T>(logits, a.v, [&](std::int64_t j, float x) {
    const float logit = a.bias == nullptr ? x : x + widen(a.bias[j]);
    return j == label ? own : expf(logit - all.top) * factor - shared;
  });
}

template <class T>
void run_loss(const LinearCrossEntropyArguments<T>& a, const Team& team) {
  Queue& queue = *team.queue;
  const Fault fault = queue.faults->expect(queue, "labels", a.labels, 0, a.v);
  for (std::int64_t first = 0; first < a.n; first += a.chunk) {
    const std::int64_t rows = a.chunk < a.n - first ? a.chunk : a.n - first;
    multiply_logits(a, first, rows, team);
    launch(queue, grid_of(rows), dim3(kLossThreads), 0, row_loss_kernel<T>, a, first, fault);
    if (a.dx != nullptr) multiply_back(a, first, rows, team);
  }
  add_up_losses(a, queue);
}

}  // namespace

template <class T>
Kernel<LinearCrossEntropyArguments<T>> linear_cross_entropy() {
  return {run_loss<T>, [](const LinearCrossEntropyArguments<T>& a, int) { return loss_workspace(a); }};
}

RL_FOR_TYPES(linear_cross_entropy, LinearCrossEntropyArguments)

}  // namespace raylite::cuda

// softmax, softmax_backward, log_sum_exp: a block takes a row.
#include "cuda/kernels.h"
#include "cuda/reduce.cuh"

namespace raylite::cuda {

namespace {

template <class T>
__device__ inline float largest_of_row(const T* x, std::int64_t d) {
  float most = -INFINITY;
  for (std::int64_t j = threadIdx.x; j < d; j += blockDim.x) most = fmaxf(most, widen(x[j]));
  return reduce_block<Larger>(most, -INFINITY);
}

template <class T>
__global__ void __launch_bounds__(512) softmax_kernel(SoftmaxArguments<T> a) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * a.d;
  const float top = largest_of_row(a.x + at, a.d);
  // Exponentials are taken twice rather than kept in y, which may hold 16 bits.
  float sum = 0;
  for (std::int64_t j = threadIdx.x; j < a.d; j += blockDim.x) sum += expf(widen(a.x[at + j]) - top);
  const float factor = 1.0f / sum_block(sum);
  for (std::int64_t j = threadIdx.x; j < a.d; j += blockDim.x) a.y[at + j] = narrow<T>(expf(widen(a.x[at + j]) - top) * factor);
}

template <class T>
__global__ void __launch_bounds__(512) softmax_backward_kernel(SoftmaxBackwardArguments<T> a) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * a.d;
  float sum = 0;
  for (std::int64_t j = threadIdx.x; j < a.d; j += blockDim.x) sum += widen(a.dy[at + j]) * widen(a.y[at + j]);
  const float shared = sum_block(sum);
  for (std::int64_t j = threadIdx.x; j < a.d; j += blockDim.x) {
    a.dx[at + j] = narrow<T>(widen(a.y[at + j]) * (widen(a.dy[at + j]) - shared));
  }
}

__global__ void __launch_bounds__(512) log_sum_exp_kernel(LogSumExpArguments a) {
  const std::int64_t row = blockIdx.x;
  const float* x = a.x + row * a.v;
  const float top = fmaxf(largest_of_row(x, a.v), -3.4e38f);
  float sum = 0;
  std::int64_t index = a.v - 1;
  for (std::int64_t j = threadIdx.x; j < a.v; j += blockDim.x) {
    sum += expf(x[j] - top);
    if (x[j] == top && j < index) index = j;
  }
  sum = sum_block(sum);
  index = reduce_block<Smaller>(index, a.v - 1);
  if (threadIdx.x != 0) return;
  a.index[row] = static_cast<std::int32_t>(index);
  a.top[row] = top;
  a.log_sum[row] = logf(sum);
}

template <class T>
void run_softmax(const SoftmaxArguments<T>& a, const Team& team) {
  launch(*team.queue, grid_of(a.n), dim3(threads_for(a.d, 1)), 0, softmax_kernel<T>, a);
}
template <class T>
void run_backward(const SoftmaxBackwardArguments<T>& a, const Team& team) {
  launch(*team.queue, grid_of(a.n), dim3(threads_for(a.d, 1)), 0, softmax_backward_kernel<T>, a);
}
void run_log_sum_exp(const LogSumExpArguments& a, const Team& team) {
  launch(*team.queue, grid_of(a.n), dim3(threads_for(a.v, 1)), 0, log_sum_exp_kernel, a);
}

}  // namespace

template <class T>
Kernel<SoftmaxArguments<T>> softmax() {
  return {run_softmax<T>, nullptr};
}
template <class T>
Kernel<SoftmaxBackwardArguments<T>> softmax_backward() {
  return {run_backward<T>, nullptr};
}
Kernel<LogSumExpArguments> log_sum_exp() { return {run_log_sum_exp, nullptr}; }

RL_FOR_TYPES(softmax, SoftmaxArguments)
RL_FOR_TYPES(softmax_backward, SoftmaxBackwardArguments)

}  // namespace raylite::cuda

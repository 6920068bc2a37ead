// What the losses over logits have in common: the sum of exponentials, the gradient of logits in their place, and the products
// before and behind it, for a chunk of rows at a time.
#pragma once
#include "core/ops/linear_cross_entropy.h"
#include "cuda/product.h"
#include "cuda/reduce.cuh"
#include "cuda/row_sums.cuh"

namespace raylite::cuda {

constexpr int kLossThreads = 512;

/// The largest of the numbers so far and the sum of their exponentials under it.
struct TopSum {
  float top, sum;
};
__device__ inline TopSum shuffle_xor(TopSum value, int bits) {
  return {__shfl_xor_sync(kFull, value.top, bits), __shfl_xor_sync(kFull, value.sum, bits)};
}
struct MergeTopSum {
  __device__ TopSum operator()(const TopSum& a, const TopSum& b) const {
    const float top = fmaxf(a.top, b.top);
    if (top == -INFINITY) return {top, 0.0f};
    return {top, a.sum * expf(a.top - top) + b.sum * expf(b.top - top)};
  }
};

/// Takes one more number along.
__device__ inline void take(TopSum& seen, float x) {
  if (x > seen.top) {
    seen.sum *= expf(seen.top - x);
    seen.top = x;
  }
  seen.sum += expf(x - seen.top);
}

/// Over a block; all threads get it.
__device__ inline TopSum merge_block(const TopSum& seen) { return reduce_block<MergeTopSum>(seen, TopSum{-INFINITY, 0.0f}); }

template <class T>
__device__ inline float logit_of(const LinearCrossEntropyArguments<T>& a, const float* logits, std::int64_t j) {
  return a.bias == nullptr ? logits[j] : logits[j] + widen(a.bias[j]);
}

/// A row of T takes the place of its v floats, from the front on: value(j, x) of each float x. Where it is shorter, what a stretch of
/// threads writes has been read by an earlier stretch, or by this one before the barrier.
template <class T, class Value>
__device__ inline void rewrite_row(float* row, std::int64_t v, Value value) {
  T* to = reinterpret_cast<T*>(row);
  for (std::int64_t first = 0; first < v; first += kLossThreads) {
    const std::int64_t j = first + threadIdx.x;
    const float x = j < v ? row[j] : 0.0f;
    if constexpr (!std::is_same_v<T, float>) __syncthreads();
    if (j < v) to[j] = narrow<T>(value(j, x));
  }
}

/// loss = scale * the sum over rows, in double, by one block.
static __global__ void __launch_bounds__(kLossThreads) total_loss_kernel(const float* losses, const float* weights, std::int64_t n, const float* scale, float* loss) {
  double total = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += kLossThreads) {
    const double weight = weights == nullptr ? 1.0 : static_cast<double>(weights[i]);
    if (losses[i] != 0.0f) total += weight * static_cast<double>(losses[i]);
  }
  total = sum_block(total);
  if (threadIdx.x == 0) loss[0] = static_cast<float>(total * static_cast<double>(scale[0]));
}

template <class T>
void add_up_losses(const LinearCrossEntropyArguments<T>& a, const Queue& queue) {
  launch(queue, dim3(1), dim3(kLossThreads), 0, total_loss_kernel, a.token_losses, a.weights, a.n, a.scale, a.loss);
}

/// The logits of rows [first, first + rows), without bias.
template <class T>
void multiply_logits(const LinearCrossEntropyArguments<T>& a, std::int64_t first, std::int64_t rows, const Team& team) {
  Product forward;
  forward.type = kDTypeOf<T>;
  forward.m = rows, forward.n = a.v, forward.k = a.d;
  forward.a = a.x + first * a.d, forward.a_row = a.d, forward.a_col = 1;
  forward.b = a.w, forward.b_row = a.transposed ? a.v : 1, forward.b_col = a.transposed ? 1 : a.d;
  forward.c = a.logits, forward.ldc = a.v;
  multiply(*team.queue, forward, team.workspace);
}

/// The products of a chunk's gradient of logits: by w for the rows of x, by the rows of x for w.
template <class T>
void multiply_back(const LinearCrossEntropyArguments<T>& a, std::int64_t first, std::int64_t rows, const Team& team) {
  const Queue& queue = *team.queue;
  const T* gradients = reinterpret_cast<const T*>(a.logits);
  const std::int64_t stride = a.v * static_cast<std::int64_t>(sizeof(float) / sizeof(T));
  const T* x = a.x + first * a.d;
  const bool adds = a.accumulate || first > 0;
  if (a.dbias != nullptr) {
    auto* partials = reinterpret_cast<float*>(team.workspace + kProductWorkspaceBytes);
    add_columns(queue, gradients, rows, a.v, stride, partials, a.dbias, a.beta, adds);
  }
  if (a.dw != nullptr) {
    Product weight;
    weight.type = kDTypeOf<T>;
    weight.m = a.transposed ? a.d : a.v, weight.n = a.transposed ? a.v : a.d, weight.k = rows;
    weight.a = a.transposed ? x : gradients, weight.a_row = 1, weight.a_col = a.transposed ? a.d : stride;
    weight.b = a.transposed ? gradients : x, weight.b_row = a.transposed ? stride : a.d, weight.b_col = 1;
    weight.c = a.dw, weight.ldc = weight.n;
    weight.beta = adds ? one_of(queue) : a.beta;
    multiply(queue, weight, team.workspace);
  }
  Product input;
  input.type = input.result = kDTypeOf<T>;
  input.m = rows, input.n = a.d, input.k = a.v;
  input.a = gradients, input.a_row = stride, input.a_col = 1;
  input.b = a.w, input.b_row = a.transposed ? 1 : a.d, input.b_col = a.transposed ? a.v : 1;
  input.c = a.dx + first * a.d, input.ldc = a.d;
  multiply(queue, input, team.workspace);
}

/// What they need beside their operands.
template <class T>
std::size_t loss_workspace(const LinearCrossEntropyArguments<T>& a) {
  const std::int64_t rows = a.chunk < a.n ? a.chunk : a.n;
  return kProductWorkspaceBytes + (a.dbias == nullptr ? 0 : row_parts_bytes(rows, a.v));
}

}  // namespace raylite::cuda

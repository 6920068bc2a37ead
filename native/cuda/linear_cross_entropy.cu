// linear_cross_entropy with and without gradients. One chunk of rows at a time: logits by a product, softmax in place (which
// turns them into their gradient, in the type of x), then the two products of the gradient while the chunk is warm. Rows
// without a label take part with zeros: how many there are is not known before the run.
#include "cuda/kernels.h"
#include "cuda/product.h"
#include "cuda/reduce.cuh"
#include "cuda/row_sums.cuh"

namespace raylite::cuda {

namespace {

constexpr int kThreads = 512;

/// The largest of the numbers so far and the sum of their exponentials under it.
struct TopSum {
  float top, sum;
};
__device__ inline TopSum shuffle_xor(TopSum value, int bits) {
  return {__shfl_xor_sync(kFull, value.top, bits), __shfl_xor_sync(kFull, value.sum, bits)};
}
struct Merge {
  __device__ TopSum operator()(const TopSum& a, const TopSum& b) const {
    const float top = fmaxf(a.top, b.top);
    if (top == -INFINITY) return {top, 0.0f};
    return {top, a.sum * expf(a.top - top) + b.sum * expf(b.top - top)};
  }
};

template <class T>
__device__ inline float logit_of(const LinearCrossEntropyArguments<T>& a, const float* logits, std::int64_t j) {
  return a.bias == nullptr ? logits[j] : logits[j] + widen(a.bias[j]);
}

/// The gradient of a row takes the place of its logits, from the front on. Where it is shorter, what a stretch of threads writes
/// has been read by an earlier stretch, or by this one before the barrier.
template <class T>
__device__ inline void write_gradient(const LinearCrossEntropyArguments<T>& a, float* logits, float top, float factor, float shared, std::int64_t label, float own) {
  T* to = reinterpret_cast<T*>(logits);
  for (std::int64_t first = 0; first < a.v; first += kThreads) {
    const std::int64_t j = first + threadIdx.x;
    const float logit = j < a.v ? logit_of(a, logits, j) : 0.0f;
    if constexpr (!std::is_same_v<T, float>) __syncthreads();
    if (j < a.v) to[j] = narrow<T>(j == label ? own : expf(logit - top) * factor - shared);
  }
}

/// Row first + blockIdx.x; its logits are row blockIdx.x of the chunk.
template <class T>
__global__ void __launch_bounds__(kThreads) row_loss_kernel(LinearCrossEntropyArguments<T> a, std::int64_t first, Fault fault) {
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
    for (std::int64_t j = threadIdx.x; j < a.v; j += kThreads) reinterpret_cast<T*>(logits)[j] = narrow<T>(0.0f);
    return;
  }
  TopSum seen{-INFINITY, 0.0f};
  float plain = 0;
  for (std::int64_t j = threadIdx.x; j < a.v; j += kThreads) {
    const float logit = logit_of(a, logits, j);
    if (logit > seen.top) {
      seen.sum *= expf(seen.top - logit);
      seen.top = logit;
    }
    seen.sum += expf(logit - seen.top);
    plain += logit;
  }
  const TopSum all = reduce_block<Merge>(seen, TopSum{-INFINITY, 0.0f});
  const float smooth = a.label_smoothing;
  const float mean = smooth == 0 ? 0 : sum_block(plain) / static_cast<float>(a.v);
  const float chosen = logit_of(a, logits, label);
  const float log_sum = logf(all.sum);
  const float z = log_sum + all.top;
  if (a.entropies != nullptr) {
    float spread = 0;
    for (std::int64_t j = threadIdx.x; j < a.v; j += kThreads) {
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
  write_gradient(a, logits, all.top, factor, shared, label, own);
}

/// loss = scale * the sum over rows, in double, by one block.
__global__ void __launch_bounds__(kThreads) total_loss_kernel(const float* losses, const float* weights, std::int64_t n, const float* scale, float* loss) {
  double total = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += kThreads) {
    const double weight = weights == nullptr ? 1.0 : static_cast<double>(weights[i]);
    if (losses[i] != 0.0f) total += weight * static_cast<double>(losses[i]);
  }
  total = sum_block(total);
  if (threadIdx.x == 0) loss[0] = static_cast<float>(total * static_cast<double>(scale[0]));
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

template <class T>
void run_loss(const LinearCrossEntropyArguments<T>& a, const Team& team) {
  Queue& queue = *team.queue;
  const Fault fault = queue.faults->expect(queue, "labels", a.labels, 0, a.v);
  for (std::int64_t first = 0; first < a.n; first += a.chunk) {
    const std::int64_t rows = a.chunk < a.n - first ? a.chunk : a.n - first;
    Product forward;
    forward.type = kDTypeOf<T>;
    forward.m = rows, forward.n = a.v, forward.k = a.d;
    forward.a = a.x + first * a.d, forward.a_row = a.d, forward.a_col = 1;
    forward.b = a.w, forward.b_row = a.transposed ? a.v : 1, forward.b_col = a.transposed ? 1 : a.d;
    forward.c = a.logits, forward.ldc = a.v;
    multiply(queue, forward, team.workspace);
    launch(queue, grid_of(rows), dim3(kThreads), 0, row_loss_kernel<T>, a, first, fault);
    if (a.dx != nullptr) multiply_back(a, first, rows, team);
  }
  launch(queue, dim3(1), dim3(kThreads), 0, total_loss_kernel, a.token_losses, a.weights, a.n, a.scale, a.loss);
}

}  // namespace

template <class T>
Kernel<LinearCrossEntropyArguments<T>> linear_cross_entropy() {
  return {run_loss<T>, [](const LinearCrossEntropyArguments<T>& a, int) {
            const std::int64_t rows = a.chunk < a.n ? a.chunk : a.n;
            return kProductWorkspaceBytes + (a.dbias == nullptr ? 0 : row_parts_bytes(rows, a.v));
          }};
}

RL_FOR_TYPES(linear_cross_entropy, LinearCrossEntropyArguments)

}  // namespace raylite::cuda

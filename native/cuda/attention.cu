// attention and attention_backward over packed segments, a warp per row and head. dq has an owner per query, dk and dv one
// per key, so that nothing is added by two and equal inputs give equal bits. f32 throughout but for the tensors.
#include "cuda/attention_library.h"
#include "cuda/attention_own.h"
#include "cuda/attention_rows.cuh"
#include "cuda/attention_tiles.h"
#include "cuda/kernels.h"

namespace raylite::cuda {

namespace {

std::size_t shared_floats(std::int64_t rows, std::int64_t head_dim, std::int64_t weights) {
  return static_cast<std::size_t>(kWarps * (rows * head_dim + weights * 32)) * sizeof(float);
}

template <class T, int kPer>
__global__ void __launch_bounds__(kWarpThreads) attention_kernel(AttentionArguments<T> a, Masks masks, float kept, Fault fault) {
  RL_DYNAMIC_SHARED(shared);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp, head = blockIdx.y;
  if (row >= a.n) return;
  if (head == 0 && lane == 0 && !is_segment_row(a.mask, row, a.n)) report(fault, row);
  const std::int64_t kv_head = head / (a.heads / a.kv_heads);
  float* query = reinterpret_cast<float*>(shared) + warp * (a.head_dim + 32);
  float* weights = query + a.head_dim;
  const T* k = a.k + a.k_layout.offset + kv_head * a.k_layout.head_stride;
  const T* v = a.v + a.v_layout.offset + kv_head * a.v_layout.head_stride;
  stage_row(a.q + row * a.q_layout.width + a.q_layout.offset + head * a.q_layout.head_stride, a.head_dim, query);
  __syncwarp();
  OnlineRow<kPer> sums;
  const Seen keys = seen_by(a.mask, row, a.n);
  for (std::int64_t first = keys.begin; first < keys.end; first += 32) {
    const std::int64_t key = first + lane;
    const float score = key < keys.end ? dot_row(query, k + key * a.k_layout.width, a.head_dim) * a.scale : -INFINITY;
    const float weight = sums.take(score);
    __syncwarp();
    weights[lane] = key < keys.end && keeps_key(masks, head, row, key) ? weight : 0.0f;
    __syncwarp();
    const std::int64_t left = keys.end - first;
    add_rows(sums.sums, weights, static_cast<int>(left < 32 ? left : 32), v + first * a.v_layout.width, a.v_layout.width, a.head_dim);
  }
  store_row(a.o + (row * a.heads + head) * a.head_dim, sums.sums, kept / sums.total, a.head_dim);
  if (lane == 0) a.lse[row * a.heads + head] = sums.top + logf(sums.total);
}

/// do . o of each row and head.
template <class T>
__global__ void __launch_bounds__(kWarpThreads) delta_kernel(AttentionBackwardArguments<T> a, float* deltas) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (at >= a.n * a.heads) return;
  float sum = 0;
  for (std::int64_t c = threadIdx.x % 32; c < a.head_dim; c += 32) sum += widen(a.grad_o[at * a.head_dim + c]) * widen(a.o[at * a.head_dim + c]);
  sum = reduce_warp<Plus>(sum);
  if (threadIdx.x % 32 == 0) deltas[at] = sum;
}

template <class T, int kPer>
__global__ void __launch_bounds__(kWarpThreads) query_gradient_kernel(AttentionBackwardArguments<T> a, const float* deltas, Masks masks, float kept, Fault fault) {
  RL_DYNAMIC_SHARED(shared);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp, head = blockIdx.y;
  if (row >= a.n) return;
  if (head == 0 && lane == 0 && !is_segment_row(a.mask, row, a.n)) report(fault, row);
  const std::int64_t kv_head = head / (a.heads / a.kv_heads), at = row * a.heads + head;
  float* query = reinterpret_cast<float*>(shared) + warp * (2 * a.head_dim + 32);
  float* grad = query + a.head_dim;
  float* slopes = grad + a.head_dim;
  const T* k = a.k + a.k_layout.offset + kv_head * a.k_layout.head_stride;
  const T* v = a.v + a.v_layout.offset + kv_head * a.v_layout.head_stride;
  stage_row(a.q + row * a.q_layout.width + a.q_layout.offset + head * a.q_layout.head_stride, a.head_dim, query);
  stage_row(a.grad_o + at * a.head_dim, a.head_dim, grad);
  __syncwarp();
  float sums[kPer] = {};
  const Seen keys = seen_by(a.mask, row, a.n);
  for (std::int64_t first = keys.begin; first < keys.end; first += 32) {
    const std::int64_t key = first + lane;
    float slope = 0;
    if (key < keys.end) {
      const float weight = expf(dot_row(query, k + key * a.k_layout.width, a.head_dim) * a.scale - a.lse[at]);
      const float gain = keeps_key(masks, head, row, key) ? kept * dot_row(grad, v + key * a.v_layout.width, a.head_dim) : 0.0f;
      slope = weight * (gain - deltas[at]);
    }
    __syncwarp();
    slopes[lane] = slope;
    __syncwarp();
    const std::int64_t left = keys.end - first;
    add_rows(sums, slopes, static_cast<int>(left < 32 ? left : 32), k + first * a.k_layout.width, a.k_layout.width, a.head_dim);
  }
  store_row(a.dq + row * a.q_layout.width + a.q_layout.offset + head * a.q_layout.head_stride, sums, a.scale, a.head_dim);
}

template <class T, int kPer>
__global__ void __launch_bounds__(kWarpThreads) key_gradient_kernel(AttentionBackwardArguments<T> a, const float* deltas, Masks masks, float kept) {
  RL_DYNAMIC_SHARED(shared);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t key = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp, kv_head = blockIdx.y;
  if (key >= a.n) return;
  const std::int64_t group = a.heads / a.kv_heads, width = a.heads * a.head_dim;
  float* k = reinterpret_cast<float*>(shared) + warp * (2 * a.head_dim + 64);
  float* v = k + a.head_dim;
  float* weights = v + a.head_dim;
  float* slopes = weights + 32;
  stage_row(a.k + key * a.k_layout.width + a.k_layout.offset + kv_head * a.k_layout.head_stride, a.head_dim, k);
  stage_row(a.v + key * a.v_layout.width + a.v_layout.offset + kv_head * a.v_layout.head_stride, a.head_dim, v);
  __syncwarp();
  float key_sums[kPer] = {}, value_sums[kPer] = {};
  const Seen queries = seeing(a.mask, key, a.n);
  for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
    const T* q = a.q + a.q_layout.offset + head * a.q_layout.head_stride;
    const T* grad_o = a.grad_o + head * a.head_dim;
    for (std::int64_t first = queries.begin; first < queries.end; first += 32) {
      const std::int64_t row = first + lane;
      float weight = 0, slope = 0;
      if (row < queries.end) {
        const std::int64_t at = row * a.heads + head;
        weight = expf(dot_row(k, q + row * a.q_layout.width, a.head_dim) * a.scale - a.lse[at]);
        const float scale = keeps_key(masks, head, row, key) ? kept : 0.0f;
        const float gain = scale == 0.0f ? 0.0f : scale * dot_row(v, grad_o + row * width, a.head_dim);
        slope = weight * (gain - deltas[at]);
        weight *= scale;
      }
      __syncwarp();
      weights[lane] = weight;
      slopes[lane] = slope;
      __syncwarp();
      const std::int64_t left = queries.end - first;
      const int count = static_cast<int>(left < 32 ? left : 32);
      add_rows(value_sums, weights, count, grad_o + first * width, width, a.head_dim);
      add_rows(key_sums, slopes, count, q + first * a.q_layout.width, a.q_layout.width, a.head_dim);
    }
  }
  store_row(a.dk + key * a.k_layout.width + a.k_layout.offset + kv_head * a.k_layout.head_stride, key_sums, a.scale, a.head_dim);
  store_row(a.dv + key * a.v_layout.width + a.v_layout.offset + kv_head * a.v_layout.head_stride, value_sums, 1.0f, a.head_dim);
}

dim3 grid_of_rows(std::int64_t rows, std::int64_t heads) { return dim3(grid_of(parts(rows, kWarps)).x, static_cast<unsigned>(heads)); }

}  // namespace

template <class T>
void attend(const AttentionArguments<T>& a, const Queue& queue) {
  const Fault fault = queue.faults->expect_segments(queue, a.mask.starts, a.mask.ends, a.n);
  if constexpr (!std::is_same_v<T, float>) {
    if (fits_tiles(a)) return attend_by_tiles(a, fault, queue);
  }
  with_columns(a.head_dim, [&](auto columns) {
    launch(queue, grid_of_rows(a.n, a.heads), dim3(kWarpThreads), shared_floats(1, a.head_dim, 1), attention_kernel<T, decltype(columns)::value>, a,
           masks_of(a.dropout), kept_scale(a.dropout), fault);
  });
}

template <class T>
void attend_back(const AttentionBackwardArguments<T>& a, float* deltas, const Queue& queue) {
  const Masks masks = masks_of(a.dropout);
  const float kept = kept_scale(a.dropout);
  const Fault fault = queue.faults->expect_segments(queue, a.mask.starts, a.mask.ends, a.n);
  launch(queue, grid_of(parts(a.n * a.heads, kWarps)), dim3(kWarpThreads), 0, delta_kernel<T>, a, deltas);
  if constexpr (!std::is_same_v<T, float>) {
    if (fits_tiles(a)) return attend_back_by_tiles(a, deltas, fault, queue);
  }
  with_columns(a.head_dim, [&](auto columns) {
    constexpr int kPer = decltype(columns)::value;
    launch(queue, grid_of_rows(a.n, a.heads), dim3(kWarpThreads), shared_floats(2, a.head_dim, 1), query_gradient_kernel<T, kPer>, a, deltas, masks, kept, fault);
    launch(queue, grid_of_rows(a.n, a.kv_heads), dim3(kWarpThreads), shared_floats(2, a.head_dim, 2), key_gradient_kernel<T, kPer>, a, deltas, masks, kept);
  });
}

template void attend(const AttentionArguments<BFloat16>&, const Queue&);
template void attend(const AttentionArguments<Float16>&, const Queue&);
template void attend_back(const AttentionBackwardArguments<BFloat16>&, float*, const Queue&);
template void attend_back(const AttentionBackwardArguments<Float16>&, float*, const Queue&);

namespace {

template <class T>
void run_forward(const AttentionArguments<T>& a, const Team& team) {
  const Queue& queue = *team.queue;
  if constexpr (!std::is_same_v<T, float>) {
    if (attend_by_library(a, queue)) return;
  }
  if (!queue.is_choosing) attend(a, queue);
}

template <class T>
void run_backward(const AttentionBackwardArguments<T>& a, const Team& team) {
  const Queue& queue = *team.queue;
  if constexpr (!std::is_same_v<T, float>) {
    if (attend_back_by_library(a, queue)) return;
  }
  if (!queue.is_choosing) attend_back(a, reinterpret_cast<float*>(team.workspace), queue);
}

}  // namespace

template <class T>
Kernel<AttentionArguments<T>> attention() {
  return {run_forward<T>, nullptr};
}
template <class T>
Kernel<AttentionBackwardArguments<T>> attention_backward() {
  return {run_backward<T>, [](const AttentionBackwardArguments<T>& a, int) { return static_cast<std::size_t>(a.n * a.heads) * sizeof(float); }};
}

RL_FOR_TYPES(attention, AttentionArguments)
RL_FOR_TYPES(attention_backward, AttentionBackwardArguments)

}  // namespace raylite::cuda

// layer_norm (with and without a residual), layer_norm_backward. A block takes a row forward, and by the rows' gradient
// backward; gains and biases get theirs out of parts of rows (row_sums.cuh).
#include "cuda/kernels.h"
#include "cuda/norm_rows.cuh"

namespace raylite::cuda {

namespace {

template <class T, int W>
__global__ void __launch_bounds__(512) layer_norm_kernel(LayerNormArguments<T> a) {
  const std::int64_t row = blockIdx.x, at = row * a.d;
  float total = 0;
  each_pack<W>(a.d, [&](std::int64_t j) {
    const Pack<W> value = take_sum<W>(a.x, a.r, a.sum, at + j);
    RL_UNROLL
    for (int i = 0; i < W; i++) total += value.at[i];
  });
  const T* x = (a.r == nullptr ? a.x : a.sum) + at;
  const float mean = sum_block(total) / static_cast<float>(a.d);
  float squares = 0;
  each_pack<W>(a.d, [&](std::int64_t j) {
    const Pack<W> value = load_pack<W>(x + j);
    RL_UNROLL
    for (int i = 0; i < W; i++) squares += (value.at[i] - mean) * (value.at[i] - mean);
  });
  const float rstd = 1.0f / sqrtf(sum_block(squares) / static_cast<float>(a.d) + a.eps);
  each_pack<W>(a.d, [&](std::int64_t j) {
    Pack<W> value = load_pack<W>(x + j);
    const Pack<W> gain = load_pack<W>(a.gain + j), bias = load_pack<W>(a.bias + j);
    RL_UNROLL
    for (int i = 0; i < W; i++) value.at[i] = (value.at[i] - mean) * rstd * gain.at[i] + bias.at[i];
    store_pack<W>(a.y + at + j, value);
  });
  if (threadIdx.x == 0) a.mean[row] = mean, a.rstd[row] = rstd;
}

/// dgain and dbias of a part of the rows; a thread has its columns to itself. Before dx, which may lie on dy.
template <class T>
__global__ void __launch_bounds__(kColumnThreads) layer_norm_parts_kernel(LayerNormBackwardArguments<T> a, float* to) {
  const std::int64_t j = own_column();
  if (j >= a.d) return;
  const RowRange rows = rows_of_part(a.n, blockIdx.y, gridDim.y);
  float gain = 0, bias = 0;
  for (std::int64_t row = rows.begin; row < rows.end; row++) {
    const float dy = widen(a.dy[row * a.d + j]);
    gain += dy * ((widen(a.x[row * a.d + j]) - a.mean[row]) * a.rstd[row]);
    bias += dy;
  }
  float* part = to + static_cast<std::int64_t>(blockIdx.y) * 2 * a.d;
  part[j] = gain;
  part[a.d + j] = bias;
}

template <class T, int W>
__global__ void __launch_bounds__(512) layer_norm_backward_kernel(LayerNormBackwardArguments<T> a) {
  const std::int64_t row = blockIdx.x, at = row * a.d;
  const float mean = a.mean[row], rstd = a.rstd[row];
  float total = 0, projected = 0;
  each_pack<W>(a.d, [&](std::int64_t j) {
    const Pack<W> dy = load_pack<W>(a.dy + at + j), x = load_pack<W>(a.x + at + j), gain = load_pack<W>(a.gain + j);
    RL_UNROLL
    for (int i = 0; i < W; i++) {
      const float scaled = dy.at[i] * gain.at[i];
      total += scaled;
      projected += scaled * ((x.at[i] - mean) * rstd);
    }
  });
  const float shift = sum_block(total) / static_cast<float>(a.d);
  const float slope = sum_block(projected) / static_cast<float>(a.d);
  each_pack<W>(a.d, [&](std::int64_t j) {
    Pack<W> value = load_pack<W>(a.dy + at + j);
    const Pack<W> x = load_pack<W>(a.x + at + j), gain = load_pack<W>(a.gain + j);
    RL_UNROLL
    for (int i = 0; i < W; i++) value.at[i] = (value.at[i] * gain.at[i] - shift - (x.at[i] - mean) * rstd * slope) * rstd;
    store_sum<W>(a.dx, a.addend, at + j, value);
  });
}

template <class T>
void run_forward(const LayerNormArguments<T>& a, const Team& team) {
  launch_rows<T>(*team.queue, a, layer_norm_kernel<T, kPack<T>>, layer_norm_kernel<T, 1>, a.x, a.r, a.sum, a.y, a.gain, a.bias);
}

template <class T>
void run_backward(const LayerNormBackwardArguments<T>& a, const Team& team) {
  const Queue& queue = *team.queue;
  auto* sums = reinterpret_cast<float*>(team.workspace);
  launch_columns(queue, a, layer_norm_parts_kernel<T>, sums);
  add_parts(queue, sums, a.n, 2 * a.d, a.d, a.dgain, a.beta, a.accumulate);
  add_parts(queue, sums + a.d, a.n, 2 * a.d, a.d, a.dbias, a.beta, a.accumulate);
  launch_rows<T>(queue, a, layer_norm_backward_kernel<T, kPack<T>>, layer_norm_backward_kernel<T, 1>, a.dy, a.x, a.gain, a.addend, a.dx);
}

}  // namespace

template <class T>
Kernel<LayerNormArguments<T>> layer_norm() {
  return {run_forward<T>, nullptr};
}
template <class T>
Kernel<LayerNormBackwardArguments<T>> layer_norm_backward() {
  return {run_backward<T>, [](const LayerNormBackwardArguments<T>& a, int) { return row_parts_bytes(a.n, 2 * a.d); }};
}

RL_FOR_TYPES(layer_norm, LayerNormArguments)
RL_FOR_TYPES(layer_norm_backward, LayerNormBackwardArguments)

}  // namespace raylite::cuda

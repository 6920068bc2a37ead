// rms_norm (with and without a residual), rms_norm_backward: as layer_norm.cu, without mean and bias.
#include "cuda/kernels.h"
#include "cuda/norm_rows.cuh"

namespace raylite::cuda {

namespace {

template <class T, int W>
__global__ void __launch_bounds__(512) rms_norm_kernel(RmsNormArguments<T> a) {
  const std::int64_t row = blockIdx.x, at = row * a.d;
  float squares = 0;
  each_pack<W>(a.d, [&](std::int64_t j) {
    const Pack<W> value = take_sum<W>(a.x, a.r, a.sum, at + j);
    RL_UNROLL
    for (int i = 0; i < W; i++) squares += value.at[i] * value.at[i];
  });
  const T* x = (a.r == nullptr ? a.x : a.sum) + at;
  const float rstd = 1.0f / sqrtf(sum_block(squares) / static_cast<float>(a.d) + a.eps);
  each_pack<W>(a.d, [&](std::int64_t j) {
    Pack<W> value = load_pack<W>(x + j);
    const Pack<W> gain = load_pack<W>(a.gain + j);
    RL_UNROLL
    for (int i = 0; i < W; i++) value.at[i] = value.at[i] * rstd * gain.at[i];
    store_pack<W>(a.y + at + j, value);
  });
  if (threadIdx.x == 0) a.rstd[row] = rstd;
}

/// dgain of a part of the rows. Before dx, which may lie on dy.
template <class T>
__global__ void __launch_bounds__(kColumnThreads) rms_norm_parts_kernel(RmsNormBackwardArguments<T> a, float* to) {
  const std::int64_t j = own_column();
  if (j >= a.d) return;
  const RowRange rows = rows_of_part(a.n, blockIdx.y, gridDim.y);
  float gain = 0;
  for (std::int64_t row = rows.begin; row < rows.end; row++) gain += widen(a.dy[row * a.d + j]) * (widen(a.x[row * a.d + j]) * a.rstd[row]);
  to[static_cast<std::int64_t>(blockIdx.y) * a.d + j] = gain;
}

template <class T, int W>
__global__ void __launch_bounds__(512) rms_norm_backward_kernel(RmsNormBackwardArguments<T> a) {
  const std::int64_t row = blockIdx.x, at = row * a.d;
  const float rstd = a.rstd[row];
  float projected = 0;
  each_pack<W>(a.d, [&](std::int64_t j) {
    const Pack<W> dy = load_pack<W>(a.dy + at + j), x = load_pack<W>(a.x + at + j), gain = load_pack<W>(a.gain + j);
    RL_UNROLL
    for (int i = 0; i < W; i++) projected += dy.at[i] * gain.at[i] * (x.at[i] * rstd);
  });
  const float slope = sum_block(projected) / static_cast<float>(a.d);
  each_pack<W>(a.d, [&](std::int64_t j) {
    Pack<W> value = load_pack<W>(a.dy + at + j);
    const Pack<W> x = load_pack<W>(a.x + at + j), gain = load_pack<W>(a.gain + j);
    RL_UNROLL
    for (int i = 0; i < W; i++) value.at[i] = (value.at[i] * gain.at[i] - x.at[i] * rstd * slope) * rstd;
    store_sum<W>(a.dx, a.addend, at + j, value);
  });
}

template <class T>
void run_forward(const RmsNormArguments<T>& a, const Team& team) {
  launch_rows<T>(*team.queue, a, rms_norm_kernel<T, kPack<T>>, rms_norm_kernel<T, 1>, a.x, a.r, a.sum, a.y, a.gain);
}

template <class T>
void run_backward(const RmsNormBackwardArguments<T>& a, const Team& team) {
  const Queue& queue = *team.queue;
  auto* sums = reinterpret_cast<float*>(team.workspace);
  launch_columns(queue, a, rms_norm_parts_kernel<T>, sums);
  add_parts(queue, sums, a.n, a.d, a.d, a.dgain, a.beta, a.accumulate);
  launch_rows<T>(queue, a, rms_norm_backward_kernel<T, kPack<T>>, rms_norm_backward_kernel<T, 1>, a.dy, a.x, a.gain, a.addend, a.dx);
}

}  // namespace

template <class T>
Kernel<RmsNormArguments<T>> rms_norm() {
  return {run_forward<T>, nullptr};
}
template <class T>
Kernel<RmsNormBackwardArguments<T>> rms_norm_backward() {
  return {run_backward<T>, [](const RmsNormBackwardArguments<T>& a, int) { return row_parts_bytes(a.n, a.d); }};
}

RL_FOR_TYPES(rms_norm, RmsNormArguments)
RL_FOR_TYPES(rms_norm_backward, RmsNormBackwardArguments)

}  // namespace raylite::cuda

// Ops that treat every element alike: a struct with `template <int W> void at(i)` for the W elements from i on.
#pragma once
#include "cuda/storage.cuh"

namespace raylite::cuda {

constexpr int kElementThreads = 256;

template <int W, class Op>
__global__ void __launch_bounds__(kElementThreads) elements_kernel(Op op, std::int64_t n) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kElementThreads + threadIdx.x) * W;
  if (i + W <= n) {
    op.template at<W>(i);
  } else {
    for (std::int64_t j = i; j < n; j++) op.template at<1>(j);
  }
}

/// Runs op over n elements; in packs of W where `aligned`.
template <int W, class Op>
void each_element(const Queue& queue, std::int64_t n, bool aligned, const Op& op) {
  if (aligned) {
    launch(queue, grid_of(parts(n, kElementThreads * W)), dim3(kElementThreads), 0, elements_kernel<W, Op>, op, n);
  } else {
    launch(queue, grid_of(parts(n, kElementThreads)), dim3(kElementThreads), 0, elements_kernel<1, Op>, op, n);
  }
}

}  // namespace raylite::cuda

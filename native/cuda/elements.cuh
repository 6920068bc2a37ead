// Ops that treat every element alike: a struct with `template <int W> void at(i)` for the W elements from i on, or `map` with a function
// of one or two floats.
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

/// y = f(x), element by element.
template <class F, class X, class Y>
struct Unary {
  F f;
  const X* x;
  Y* y;
  template <int W>
  __device__ void at(std::int64_t i) const {
    Pack<W> value = load_pack<W>(x + i);
    RL_UNROLL
    for (int j = 0; j < W; j++) value.at[j] = f(value.at[j]);
    store_pack<W>(y + i, value);
  }
};

/// y = f(a, b), element by element.
template <class F, class T>
struct Binary {
  F f;
  const T* a;
  const T* b;
  T* y;
  template <int W>
  __device__ void at(std::int64_t i) const {
    Pack<W> value = load_pack<W>(a + i);
    const Pack<W> other = load_pack<W>(b + i);
    RL_UNROLL
    for (int j = 0; j < W; j++) value.at[j] = f(value.at[j], other.at[j]);
    store_pack<W>(y + i, value);
  }
};

/// F is a struct of a function of floats.
template <class F, class X, class Y>
void map(const Queue& queue, std::int64_t n, const F& f, const X* x, Y* y) {
  constexpr int W = kPack<X> > kPack<Y> ? kPack<X> : kPack<Y>;
  each_element<W>(queue, n, are_aligned(x, y), Unary<F, X, Y>{f, x, y});
}
template <class F, class T>
void map(const Queue& queue, std::int64_t n, const F& f, const T* a, const T* b, T* y) {
  each_element<kPack<T>>(queue, n, are_aligned(a, b, y), Binary<F, T>{f, a, b, y});
}

}  // namespace raylite::cuda

// Sums and maxima over a warp or a block: by halves, in one order, so that equal inputs give equal bits.
#pragma once
#include "cuda/storage.cuh"

namespace raylite::cuda {

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const { return a + b; }
};
struct Larger {
  template <class T>
  __device__ T operator()(T a, T b) const { return a > b ? a : b; }
};
struct Smaller {
  template <class T>
  __device__ T operator()(T a, T b) const { return a < b ? a : b; }
};

/// Another lane's value. A struct brings its own.
template <class T>
__device__ inline T shuffle_xor(T value, int bits) {
  return __shfl_xor_sync(kFull, value, bits);
}

/// Over the lanes of a warp; all of them get it.
template <class Op, class T>
__device__ inline T reduce_warp(T value, Op op = {}) {
  RL_UNROLL
  for (int bits = 16; bits > 0; bits /= 2) value = op(value, shuffle_xor(value, bits));
  return value;
}

/// Over a block of whole warps; all threads get it. `rest` is what is there without any.
template <class Op, class T>
__device__ inline T reduce_block(T value, T rest, Op op = {}) {
  __shared__ T partials[32];
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  value = reduce_warp<Op>(value, op);
  __syncthreads();  // a former call may still be reading
  if (lane == 0) partials[warp] = value;
  __syncthreads();
  return reduce_warp<Op>(lane < blockDim.x / 32 ? partials[lane] : rest, op);
}

template <class T>
__device__ inline T sum_block(T value) {
  return reduce_block<Plus>(value, T(0));
}

constexpr std::int64_t kRowThreadsMax = 512;

/// Threads for rows of d elements: whole warps, no more than there is work for.
inline unsigned threads_for(std::int64_t d, int pack) {
  const std::int64_t wanted = parts(parts(d, pack), 32) * 32;
  return static_cast<unsigned>(wanted < kRowThreadsMax ? wanted : kRowThreadsMax);
}

}  // namespace raylite::cuda

// block_quantise and block_dequantise, with the bits of the CPU's: a block of threads takes a block of numbers; on the way back a
// thread takes two numbers, whose terms it adds in their order.
#include "cuda/elements.cuh"
#include "cuda/kernels.h"
#include "cuda/reduce.cuh"

namespace raylite::cuda {

namespace {

constexpr unsigned kThreads = 128;

__device__ inline int quantised(float x, float factor, float least, float most) {
  const float scaled = x * factor;
  const float bounded = scaled > least ? scaled : least;  // the least for a NaN
  return static_cast<int>(rintf(bounded > most ? most : bounded));
}

/// Block blockIdx.x of part blockIdx.y of x.
template <class T>
__global__ void __launch_bounds__(kThreads) quantise_kernel(BlockQuantiseArguments<T> a, std::int64_t payload) {
  const std::int64_t block = blockIdx.x, part = blockIdx.y, start = block * a.block;
  const std::int64_t count = a.block < a.n - start ? a.block : a.n - start;
  const T* x = a.x + part * a.n + start;
  std::uint8_t* y = a.y + ((part % a.columns) * (a.parts / a.columns) + part / a.columns) * payload;
  std::uint32_t seen = 0;  // magnitudes compare as integers, and a NaN is larger than all
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) {
    const std::uint32_t magnitude = bits_of(widen(x[i])) & 0x7fffffffu;
    seen = magnitude > seen ? magnitude : seen;
  }
  const float largest = float_of(reduce_block<Larger>(seen, std::uint32_t{0}));
  const float factor = largest == 0.0f ? 1.0f : static_cast<float>(1 << a.bits) / (2.0f * largest);
  const float most = static_cast<float>((1 << (a.bits - 1)) - 1), least = -most - 1.0f;
  if (threadIdx.x == 0) reinterpret_cast<float*>(y + a.n * a.bits / 8)[block] = 1.0f / factor;
  std::uint8_t* q = y + start * a.bits / 8;
  for (std::int64_t i = threadIdx.x; i < count / 2; i += kThreads) {
    const int low = quantised(widen(x[2 * i]), factor, least, most), high = quantised(widen(x[2 * i + 1]), factor, least, most);
    if (a.bits == 8) {
      q[2 * i] = static_cast<std::uint8_t>(low), q[2 * i + 1] = static_cast<std::uint8_t>(high);
    } else {
      q[i] = static_cast<std::uint8_t>((low & 15) | (high << 4));
    }
  }
}

/// Two numbers, the pair-th of y.
template <class T>
struct Dequantise {
  BlockDequantiseArguments<T> a;
  std::int64_t payload;
  template <int W>
  __device__ void at(std::int64_t pair) const {
    const std::int64_t part = 2 * pair / a.n, i = 2 * pair % a.n, results = a.parts / a.terms;
    float sums[2];
    for (std::int64_t term = 0; term < a.terms; term++) {
      const std::uint8_t* x = a.x + (term * results + part) * payload;
      const float step = reinterpret_cast<const float*>(x + a.n * a.bits / 8)[i / a.block];
      for (int k = 0; k < 2; k++) {
        const std::uint8_t byte = x[a.bits == 8 ? i + k : i / 2];
        const int q = a.bits == 8 ? static_cast<std::int8_t>(byte) : static_cast<std::int8_t>(k == 0 ? byte << 4 : byte) >> 4;
        const float value = __fmul_rn(static_cast<float>(q), step);  // rounded before it is added, as on the CPU
        sums[k] = term == 0 ? value : sums[k] + value;
      }
    }
    for (int k = 0; k < 2; k++) a.y[2 * pair + k] = narrow<T>(sums[k]);
  }
};

template <class T>
void run_quantise(const BlockQuantiseArguments<T>& a, const Team& team) {
  const dim3 grid(grid_of(parts(a.n, a.block)).x, static_cast<unsigned>(a.parts));
  launch(*team.queue, grid, dim3(kThreads), 0, quantise_kernel<T>, a, payload_bytes(a.n, a.bits, a.block));
}

template <class T>
void run_dequantise(const BlockDequantiseArguments<T>& a, const Team& team) {
  const std::int64_t pairs = a.parts / a.terms * a.n / 2;
  each_element<1>(*team.queue, pairs, true, Dequantise<T>{a, payload_bytes(a.n, a.bits, a.block)});
}

}  // namespace

template <class T>
Kernel<BlockQuantiseArguments<T>> block_quantise() {
  return {run_quantise<T>, nullptr};
}
template <class T>
Kernel<BlockDequantiseArguments<T>> block_dequantise() {
  return {run_dequantise<T>, nullptr};
}

RL_FOR_TYPES(block_quantise, BlockQuantiseArguments)
RL_FOR_TYPES(block_dequantise, BlockDequantiseArguments)

}  // namespace raylite::cuda
